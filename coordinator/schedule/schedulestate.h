/* schedulestate.h - what schedule.c (events) and schedulestep.c (the next step) share.
 * Owner:  the schedule owns its sequences and tables; all tables are allocated once, at schedule_new. */
#ifndef MUSTER_SCHEDULESTATE_H
#define MUSTER_SCHEDULESTATE_H

#include "coordinator/schedule/schedule.h"

struct sequence {
    struct schedule_request r;
    struct sequence *next;      /* in the waiting list, by age */
    uint64_t age;               /* order of submission */
    uint64_t ticket;            /* this admission's name for the workers */
    int32_t *generated;         /* [n_generate], received */
    int n_generated;
    int slot;                   /* -1 waiting */
    int kept;                   /* first rows that the slot held already */
    int known;                  /* at admission: prompt + generated; these rows carry their tokens */
    int fed;                    /* rows issued: positions [0, fed) */
    int asked;                  /* tokens received or asked for */
    int chunk;                  /* prompt rows of one step at most */
    int in_flight;              /* steps */
    int n_pages;
    uint64_t last_step;         /* that carried it */
    bool announced;             /* its Admit has gone out */
    bool considered, in_step;   /* of the step being built: looked at; has a run in it */
};

/* What a step in flight will answer. */
struct answer { struct sequence *seq; uint64_t ticket; int slot, position; bool sampled, seen; };
struct flight { uint64_t id; int n; struct answer *answer; };   /* answer [max_slots] */

/* The prompt of a sequence that has ended, its slot and pages, for one that begins alike. */
struct kept {
    int slot;                   /* -1: nothing is kept */
    int n_pages, n;
    bool is_long;
    int32_t *token;             /* [max_context], n of them */
};

struct schedule {
    struct schedule_limits lim;
    struct kept kept;
    struct sequence *waiting, *waiting_last;
    struct sequence **slot;         /* [max_slots] */
    int n_running;
    uint32_t *free_page; int n_free;/* stack [kv_pages] */
    uint32_t *slot_page;            /* [max_slots][pages_per_slot] */
    int pages_per_slot;
    uint32_t *release; int n_release;   /* slots to free in the next step, [max_slots] */
    struct flight *flight;          /* ring [flights_max], oldest at flight_at */
    int flights_max, flight_at, n_flights;
    uint64_t next_age, next_ticket, next_step;
    uint64_t steps, preempted, kept_rows;
};

static inline int schedulestate_pages(const struct schedule *s, int rows)
{
    return (rows + s->lim.page_tokens - 1) / s->lim.page_tokens;
}

/* Rows that a sequence feeds in all: its last token is never an input. */
static inline int64_t schedulestate_rows(const struct schedule_request *r)
{
    return (int64_t)r->n_prompt + (r->n_generate > 0 ? r->n_generate - 1 : 0);
}

/* The waiting list is kept by age: a preempted sequence goes before those that came after it. */
void schedulestate_wait(struct schedule *s, struct sequence *q);
void schedulestate_unwait(struct schedule *s, struct sequence *q);
/* Gives slot and pages back; the workers hear of it in the next step. */
void schedulestate_leave(struct schedule *s, struct sequence *q);

/* schedulekeep.c: q, which has ended, leaves its prompt behind instead. */
void schedulestate_keep(struct schedule *s, struct sequence *q);
/* How many of q's first rows the kept prompt has: never all, since the last one is sampled. */
int schedulestate_kept_rows(const struct schedule *s, const struct sequence *q);
/* Gives the kept prompt's slot and pages back; false: nothing was kept. */
bool schedulestate_drop(struct schedule *s);

#endif
