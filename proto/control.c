#include "proto/control.h"

#include "proto/liveness.h"
#include "proto/wire.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    TICK_US = 50000,            /* how often a control thread looks: what a revoke may wait */
    LETTER_BYTES = 512,         /* a heartbeat or a revoke, packed */
    ARENA_BYTES = 16384,        /* one of them, unpacked */
    DRAIN_US = 200000,          /* for the last messages */
    ASK_US = 300000,            /* for an answer, when the launcher leaves us a second to live */
    ASK_TICK_US = 10000,
    RETURN_US = 3000000,        /* after a return, within which a request to end is the launcher's */
    HURRY_US = 250000,          /* the grace that such a launcher leaves */
    RETURN_TURNS = 20,          /* looks of a millisecond for what came while this process was stopped */
    WATCHDOG_TICK_US = 1000000,
    WATCHDOG_TICKS = 20,        /* without a turn of the control thread: it is stuck inside MPI */
    PARTIES_MAX = 4,            /* of one process */
    HOST_MAX = 64,
    FAILURES_MAX = 4,           /* of a turn */
};

/* A message under way; its bytes may be read by the transport until req is empty. */
struct letter { struct comm_req req; uint8_t bytes[LETTER_BYTES]; };

struct control_state {
    struct comm *beat, *party;
    struct control_options o;
    pthread_t thread, watchdog;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int stop;                           /* under lock */
    volatile uint64_t turns;            /* of the thread: the watchdog looks */
    /* what the party reads */
    volatile int revoked;
    volatile int64_t vouched_us;
    char why[200];
    /* the thread's own */
    struct arena mem;
    struct letter *beats, *lasts;       /* [n_peers]: a last word need not wait for a beat */
    int n_peers;                        /* the coordinator's: workers; a worker's: 1 */
    struct liveness live;
    int64_t beat_at_us, turned_us, heard_us, revoked_at_us;
    int64_t returned_us;                /* when this process was last found to have been stopped */
    int64_t asked_us;                   /* when peers were asked; 0 not, -1 they have answered */
    int heard, ended, answered;         /* a worker's: of the coordinator */
    int owes_answer;
    int called_off;                     /* the workers were told so */
    struct control_state *next;
};

/* States that outlive control_stop: a party may still read why, MPI may still read a letter. */
static struct control_state *kept;

static int watches(const struct control_state *s) { return s->beat->self == comm_coordinator(s->beat); }

int control_speaks(int rank, int revoked) { return rank == (revoked == COMM_ALONE ? 1 : 0); }

/* --- the state line: async-signal-safe, so that a stuck rank can still be asked */

static struct {
    const struct comm *volatile party[PARTIES_MAX];
    char host[HOST_MAX];
} signalled;

struct line { char text[320]; size_t n; };

static void put_text(struct line *l, const char *text)
{
    while (*text != '\0' && l->n < sizeof l->text - 1)
        l->text[l->n++] = *text++;
}

static void put_count(struct line *l, uint64_t v)
{
    char digits[24];
    int n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    while (n > 0 && l->n < sizeof l->text - 1)
        l->text[l->n++] = digits[--n];
}

static void put_party(struct line *l, const struct comm *c, int party)
{
    if (party == comm_coordinator(c)) {
        put_text(l, "the coordinator");
        return;
    }
    put_text(l, "rank ");
    put_count(l, (uint64_t)party);
}

/* What the party is at, as text: for heartbeats and for the state line. */
static void put_doing(struct line *l, const struct comm *c)
{
    const char *doing = c->doing;
    if (c->activity == COMM_WAITING) {
        put_text(l, "waiting for ");
        put_party(l, c, c->wait_peer);
        put_text(l, " on ");
        put_text(l, comm_channel_name(c->wait_channel));
        put_text(l, doing != NULL ? " while " : "");
    } else if (doing == NULL) {
        put_text(l, c->activity == COMM_IDLE ? "idle" : "working");
    }
    put_text(l, doing != NULL ? doing : "");
}

static void write_state(int sig)
{
    (void)sig;
    for (int i = 0; i < PARTIES_MAX; i++) {
        const struct comm *c = signalled.party[i];
        struct line l = {.n = 0};
        if (c == NULL)
            continue;
        put_text(&l, "muster: state: ");
        put_party(&l, c, c->self);
        put_text(&l, "@");
        put_text(&l, signalled.host);
        put_text(&l, ": ");
        put_doing(&l, c);
        if (c->activity == COMM_WAITING) {
            put_text(&l, " since ");
            put_count(&l, (uint64_t)(comm_now_us((struct comm *)(uintptr_t)c) - c->wait_begun_us) / 1000);
            put_text(&l, " ms");
        }
        put_text(&l, "; message ");
        put_count(&l, c->progress);
        l.text[l.n++] = '\n';
        ssize_t ignored = write(STDERR_FILENO, l.text, l.n);
        (void)ignored;
    }
}

static void register_party(const struct comm *party)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = write_state;
    sa.sa_flags = SA_RESTART | SA_ONSTACK;
    sigemptyset(&sa.sa_mask);
    gethostname(signalled.host, sizeof signalled.host - 1);
    for (int i = 0; i < PARTIES_MAX; i++)
        if (signalled.party[i] == NULL) {
            signalled.party[i] = party;
            break;
        }
    sigaction(SIGUSR1, &sa, NULL);
}

static void unregister_party(const struct comm *party)
{
    for (int i = 0; i < PARTIES_MAX; i++)
        if (signalled.party[i] == party)
            signalled.party[i] = NULL;
}

/* --- messages, none of which may block */

/* Is the letter free? */
static int has_left(struct control_state *s, struct letter *l)
{
    int done = 1;
    if (l->req.handle != NULL && s->beat->table->test(s->beat, &l->req, &done, NULL) != ERR_OK)
        done = 1;       /* it failed: silence will tell */
    return done;
}

/* A peer that has not taken the last letter gets no other. */
static void send_letter(struct control_state *s, struct letter *l, int peer, Muster__Envelope *m)
{
    if (!has_left(s, l) || wire_packed_size(m) > sizeof l->bytes)
        return;
    m->epoch = s->beat->epoch;
    size_t n = wire_pack(m, l->bytes);
    if (s->beat->table->send_begin(s->beat, peer, COMM_BEAT, l->bytes, n, &l->req, NULL) != ERR_OK)
        l->req.handle = NULL;
}

static int peer_of(const struct control_state *s, int i)
{
    return watches(s) ? i : comm_coordinator(s->beat);
}

static void send_beats(struct control_state *s, enum comm_activity activity)
{
    struct line doing = {.n = 0};
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Heartbeat h = MUSTER__HEARTBEAT__INIT;
    put_doing(&doing, s->party);
    doing.text[doing.n < 120 ? doing.n : 120] = '\0';
    h.rank = (uint32_t)s->beat->self;
    h.progress = s->party->progress;
    h.activity = activity;
    h.ask = s->asked_us > 0;
    h.answer = s->owes_answer;
    h.doing = doing.text;
    m.body_case = MUSTER__ENVELOPE__BODY_HEARTBEAT;
    m.heartbeat = &h;
    for (int i = 0; i < s->n_peers; i++)
        send_letter(s, activity == COMM_GONE ? &s->lasts[i] : &s->beats[i], peer_of(s, i), &m);
    s->owes_answer = 0;
}

static void send_revokes(struct control_state *s, const char *why, int called_off)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Revoke r = MUSTER__REVOKE__INIT;
    r.epoch = s->party->epoch;
    r.reason = (char *)(uintptr_t)why;
    r.called_off = called_off;
    m.body_case = MUSTER__ENVELOPE__BODY_REVOKE;
    m.revoke = &r;
    for (int i = 0; i < s->n_peers; i++)
        send_letter(s, &s->lasts[i], i, &m);
}

/* --- one turn of the thread */

static void say(const struct control_state *s)
{
    char line[240];
    int n = snprintf(line, sizeof line, "muster: %s\n", s->why);
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)n);
    (void)ignored;
}

static void end_waits(struct control_state *s, int how, int64_t now)
{
    if (s->revoked)
        return;
    s->revoked_at_us = now;
    /* The line first: whoever leaves first makes the launcher kill the others at once. */
    if (s->o.leave != NULL && (watches(s) || (how == COMM_ALONE && control_speaks(s->beat->self, how))))
        say(s);
    __atomic_store_n(&s->revoked, how, __ATOMIC_RELEASE);    /* why is written: waits may read it */
    if (watches(s))
        send_revokes(s, s->why, 0);
    else if (how == COMM_ALONE)
        send_beats(s, COMM_GONE);       /* a coordinator that was only stopped will know */
}

static void take_beat(struct control_state *s, const Muster__Heartbeat *h, int peer, int64_t now)
{
    if (h->ask) {
        s->owes_answer = 1;
        s->beat_at_us = 0;      /* at the next turn */
    }
    if (!watches(s)) {
        s->vouched_us = now;
        s->ended = h->activity == COMM_GONE;
        s->answered |= h->answer;
        return;
    }
    if (peer >= s->live.n)
        return;
    liveness_beat(&s->live, peer, h->progress, (enum comm_activity)h->activity, h->doing, now);
    if (h->answer)
        liveness_answer(&s->live, peer);
}

static void take(struct control_state *s, const Muster__Envelope *m, int peer, int64_t now)
{
    s->heard = 1;
    s->heard_us = now;
    if (m->body_case == MUSTER__ENVELOPE__BODY_HEARTBEAT) {
        take_beat(s, m->heartbeat, peer, now);
    } else if (m->body_case == MUSTER__ENVELOPE__BODY_REVOKE && !watches(s) && !s->revoked) {
        snprintf(s->why, sizeof s->why, "%s", m->revoke->reason);
        end_waits(s, m->revoke->called_off ? COMM_CALLED_OFF : COMM_REVOKED, now);
    }
}

static void take_all(struct control_state *s)
{
    for (int failures = 0; failures < FAILURES_MAX;) {
        Muster__Envelope *m;
        int peer;
        arena_reset(&s->mem);
        if (wire_poll(s->beat, COMM_BEAT, &s->mem, &peer, &m, NULL) != ERR_OK) {
            failures++;     /* a damaged message is consumed; the next may be sound */
            continue;
        }
        if (m == NULL)
            return;
        take(s, m, peer, comm_now_us(s->beat));
    }
}

static void judge_workers(struct control_state *s, int64_t now)
{
    struct liveness_verdict v =
        liveness_check(&s->live, s->party->activity, s->party->progress, now);
    if (s->revoked)
        return;
    if (v.fault == LIVENESS_FINE) {
        s->vouched_us = now;
        return;
    }
    liveness_describe(&s->live, &v, s->why, sizeof s->why);
    end_waits(s, COMM_REVOKED, now);
}

/* A rank failed in the middle of something: the others wait for it, and the coordinator's party has asked
 * to let them go. Its own waits go on, since it has a Stop to send. */
static void call_off(struct control_state *s)
{
    if (s->called_off || s->revoked || !s->party->called_off)
        return;
    s->called_off = 1;
    send_revokes(s, "another rank has failed", 1);
}

/* Somebody wants this process to end: the user, or a launcher that has lost a rank. */
static void judge_the_asked(struct control_state *s, int64_t now)
{
    if (s->o.asked_to_end == NULL || s->asked_us < 0 || s->revoked || !s->o.asked_to_end())
        return;
    if (s->beat->self == 0)
        return;     /* the coordinator's thread, in the same process, asks for both */
    if (s->returned_us > 0 && now - s->returned_us < RETURN_US && s->o.leave != NULL)
        s->o.leave(EXIT_PEER, 0);       /* continued only to be ended: the others have spoken */
    if (s->asked_us == 0) {
        s->asked_us = now;
        s->answered = 0;
        liveness_ask(&s->live);
        send_beats(s, s->party->activity);
        return;
    }
    int missing = watches(s) ? liveness_unanswered(&s->live) : s->answered || s->ended ? -1 : 0;
    if (missing >= 0 && now - s->asked_us < ASK_US)
        return;
    s->asked_us = -1;
    if (missing >= 0) {
        snprintf(s->why, sizeof s->why, "rank %d is dead or stopped: it does not answer", missing);
        end_waits(s, watches(s) ? COMM_REVOKED : COMM_ALONE, now);
    } else if (watches(s) && s->o.end != NULL) {
        s->o.end();
    }
}

/* This process was stopped, and has just been continued, perhaps by the launcher on its way to kill it. */
static void return_from_absence(struct control_state *s, int64_t now)
{
    for (int i = 0; i < RETURN_TURNS && !s->revoked; i++) {
        take_all(s);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (watches(s) && liveness_any_gone(&s->live) && s->o.leave != NULL)
        s->o.leave(EXIT_PEER, 0);       /* the others have given us up, and have said so */
    if (watches(s))
        liveness_forgive(&s->live, now);
    s->heard_us = s->returned_us = now;
}

static void judge_coordinator(struct control_state *s, int64_t now)
{
    int64_t silence = now - s->heard_us;
    if (s->ended || s->revoked || silence <= (s->heard ? s->o.silent_us : s->o.first_us))
        return;
    snprintf(s->why, sizeof s->why, "rank 0 is dead or stopped: nothing heard of it for %.0f s",
             (double)silence / 1e6);
    end_waits(s, COMM_ALONE, now);
}

/* A process that has not left by itself: it computes, or sits in a read. */
static void make_leave(struct control_state *s, int64_t now)
{
    int hurry = s->o.asked_to_end != NULL && s->o.asked_to_end();
    int64_t grace = hurry && s->o.grace_us > HURRY_US ? HURRY_US : s->o.grace_us;
    if (!s->revoked || s->o.leave == NULL || now - s->revoked_at_us < grace)
        return;
    s->o.leave(EXIT_PEER, control_speaks(watches(s) ? 0 : s->beat->self, s->revoked));
}

static void turn(struct control_state *s)
{
    int64_t now = comm_now_us(s->beat);
    if (now - s->beat_at_us >= s->o.beat_us && !(watches(s) && s->revoked)) {
        s->beat_at_us = now;
        send_beats(s, s->party->activity);
    }
    take_all(s);
    now = comm_now_us(s->beat);
    if (s->turned_us > 0 && now - s->turned_us > s->o.silent_us / 2)
        return_from_absence(s, now);
    s->turned_us = now;
    if (watches(s)) {
        judge_workers(s, now);
        call_off(s);
    } else {
        judge_coordinator(s, now);
    }
    judge_the_asked(s, now);
    make_leave(s, now);
    s->turns++;
}

/* Sleeps on the condition; returns whether the end was asked for. */
static int nap(struct control_state *s, int64_t us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + us % 1000000 * 1000;
    until.tv_sec += us / 1000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&s->lock);
    while (!s->stop && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
        ;
    int stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

static int all_left(struct control_state *s)
{
    int left = 1;
    for (int i = 0; i < s->n_peers; i++)
        left &= has_left(s, &s->beats[i]) & has_left(s, &s->lasts[i]);
    return left;
}

static void *run(void *arg)
{
    struct control_state *s = arg;
    do
        turn(s);
    while (!nap(s, s->asked_us != 0 ? ASK_TICK_US : TICK_US));
    if (!s->revoked)
        send_beats(s, COMM_GONE);
    int64_t end = comm_now_us(s->beat) + DRAIN_US;
    while (!all_left(s) && comm_now_us(s->beat) < end)
        comm_give_way(comm_now_us(s->beat) - end + DRAIN_US);
    return NULL;
}

/* Counts its own sleeps, not the clock: a rank that was stopped and goes on is not stuck. */
static void *watchdog(void *arg)
{
    struct control_state *s = arg;
    uint64_t seen = 0;
    for (int still = 0; !nap(s, WATCHDOG_TICK_US);) {
        still = s->turns == seen ? still + 1 : 0;
        seen = s->turns;
        if (still < WATCHDOG_TICKS || s->o.leave == NULL)
            continue;
        struct line l = {.n = 0};
        put_text(&l, "muster: ");
        put_party(&l, s->beat, s->beat->self);
        put_text(&l, " is stuck inside MPI\n");
        ssize_t ignored = write(STDERR_FILENO, l.text, l.n);
        (void)ignored;
        _exit(EXIT_PEER);
    }
    return NULL;
}

/* --- start and end */

static void free_state(struct control_state *s)
{
    arena_free(&s->mem);
    liveness_free(&s->live);
    free(s->beats);
    free(s->lasts);
    free(s);
}

static void set_defaults(struct control_options *o)
{
    static const struct control_options d = {.beat_us = 500000, .first_us = 20000000,
                                             .silent_us = 5000000, .stuck_us = 30000000,
                                             .grace_us = 3000000};
    o->beat_us = o->beat_us > 0 ? o->beat_us : d.beat_us;
    o->first_us = o->first_us > 0 ? o->first_us : d.first_us;
    o->silent_us = o->silent_us > 0 ? o->silent_us : d.silent_us;
    o->stuck_us = o->stuck_us > 0 ? o->stuck_us : d.stuck_us;
    o->grace_us = o->grace_us > 0 ? o->grace_us : d.grace_us;
}

static int allocate(struct control_state *s, int64_t now, struct err *err)
{
    struct liveness_limits limits = {s->o.first_us, s->o.silent_us, s->o.stuck_us};
    s->n_peers = watches(s) ? s->beat->n_workers : 1;
    s->beats = calloc((size_t)s->n_peers, sizeof *s->beats);
    s->lasts = calloc((size_t)s->n_peers, sizeof *s->lasts);
    if (s->beats == NULL || s->lasts == NULL || arena_init(&s->mem, ARENA_BYTES) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for a control thread");
    return watches(s) ? liveness_init(&s->live, s->beat->n_workers, &limits, now, err) : ERR_OK;
}

static int start_threads(struct control_state *s, struct err *err)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&s->watchdog, NULL, watchdog, s) != 0)
        return err_set(err, ERR_NOMEM, "cannot start a watchdog thread");
    if (pthread_create(&s->thread, NULL, run, s) == 0)
        return ERR_OK;
    pthread_mutex_lock(&s->lock);
    s->stop = 1;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->watchdog, NULL);
    return err_set(err, ERR_NOMEM, "cannot start a control thread");
}

int control_start(struct control *c, struct comm *beat, struct comm *party,
                  const struct control_options *options, struct err *err)
{
    struct control_state *s = calloc(1, sizeof *s);
    c->state = NULL;
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a control thread");
    s->beat = beat;
    s->party = party;
    s->o = *options;
    set_defaults(&s->o);
    s->heard_us = s->vouched_us = comm_now_us(beat);
    int rc = allocate(s, s->heard_us, err);
    if (rc == ERR_OK)
        rc = start_threads(s, err);
    if (rc != ERR_OK) {
        free_state(s);
        return rc;
    }
    party->revoked_why = s->why;
    party->vouched_us = &s->vouched_us;
    party->revoked = &s->revoked;
    register_party(party);
    c->state = s;
    return ERR_OK;
}

void control_stop(struct control *c)
{
    struct control_state *s = c->state;
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = 1;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_join(s->watchdog, NULL);
    unregister_party(s->party);
    c->state = NULL;
    if (s->revoked || !all_left(s)) {
        s->next = kept;
        kept = s;
        return;
    }
    s->party->revoked = NULL;
    s->party->revoked_why = NULL;
    s->party->vouched_us = NULL;
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free_state(s);
}
