/* commands.c - the table of subcommands. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"

#include <stdio.h>
#include <string.h>

const struct command *const command_table[] = {
    &command_generate, &command_chat, &command_imagine, &command_compare, &command_upscale,
    &command_score, &command_tokenize, &command_logits, &command_probe, &command_perplexity,
    &command_kl, &command_inspect, &command_bench, &command_quantize, &command_doctor,
    &command_plan, &command_train, NULL,
};

const struct command *command_find(const char *name)
{
    for (int i = 0; command_table[i] != NULL; i++)
        if (strcmp(command_table[i]->name, name) == 0)
            return command_table[i];
    return NULL;
}

const struct command *command_sub(const struct command *c, const char *word)
{
    size_t own = strlen(c->name) + 1;
    for (int i = 0; c->sub[i] != NULL; i++)
        if (strcmp(c->sub[i]->name + own, word) == 0)
            return c->sub[i];
    return NULL;
}

int command_parse(const struct command *c, void *options, int argc, char **argv, struct err *err)
{
    TRY(cli_parse(c->argp, c->name, argc, argv, options, err));
    return c->check == NULL ? ERR_OK : c->check(options, err);
}

bool command_wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--usage") == 0 ||
            strcmp(argv[i], "-?") == 0)
            return true;
    return false;
}

void command_help(const struct command *c)
{
    char name[64];
    snprintf(name, sizeof name, "muster %s", c->name);
    if (c->sub != NULL) {
        printf("Usage: %s COMMAND [OPTION...]\n%s.\n\n", name, c->summary);
        for (int i = 0; c->sub[i] != NULL; i++)
            printf("  %-16s %s\n", c->sub[i]->name, c->sub[i]->summary);
        printf("\n`%s COMMAND --help` says more, with an example.\n", name);
        return;
    }
    argp_help(c->argp, stdout, ARGP_HELP_STD_HELP & ~(unsigned)ARGP_HELP_EXIT_OK, name);
}

void command_list(void)
{
    printf("Usage: muster COMMAND [OPTION...]\n"
           "       mpirun -n N muster COMMAND [OPTION...]\n\n"
           "The ranks of one MPI job work as one machine for generative models.\n\n");
    for (int i = 0; command_table[i] != NULL; i++)
        printf("  %-10s %s\n", command_table[i]->name, command_table[i]->summary);
    printf("\n`muster COMMAND --help` says more, with an example.\n");
}
