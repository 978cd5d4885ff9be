/* make_vocab.c - see make_vocab.h. */
#include "tests/bench/make_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the merges are learned from. */
static const char text[] =
    "When the morning bell rang over the harbour, the captain called the crew together. One by one "
    "they came up from below, and each of them told her what he or she could carry: this one a rope, "
    "that one a barrel, the smallest of them only a lantern. She listened to all of them before she "
    "said a word. Then she shared the work out, so that nobody carried more than they could and "
    "nobody stood idle while the others waited.\n"
    "There was a river to cross, and a long road after that, and at the end of the road there was a "
    "house with a red door. The old man who lived in the house was a painter. He had painted the "
    "river and the road, the hills and the trees, the clouds in the morning and the stars at night, "
    "and every one of his pictures was a little different from the thing that it showed. He said "
    "that he could not help it. When he looked at a tree he saw the wind in it, and when he looked at "
    "the river he heard the stones.\n"
    "The children of the village came to see him on the days when it rained. They asked him to tell "
    "them a story, and he always began in the same way: once upon a time there was a number that was "
    "so large that nobody could count to it alone. So they counted together. The first counted from "
    "one to ten, the second from ten to twenty, and so on around the fire, until the last of them "
    "said the number out loud. It did not matter who had counted what. It did not matter how many "
    "they were. The number was always the same, and that, the old man said, is the best thing about "
    "numbers, and about friends.\n"
    "What do you think they did when it was dark? They looked for the lantern, of course. Where was "
    "it? It was with the smallest of the crew, who had carried it all the way up the long road, over "
    "the river and through the trees, and who now lit it and put it down beside the red door.\n";

enum { N_TEXT = sizeof text - 1 };

/* GPT-2's letter for a byte: itself where that is printable, else from U+0100 on. */
static int letter_of(int byte, char out[3])
{
    int code = 0;
    if ((byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE) {
        code = byte;
    } else {
        for (int b = 0; b < byte; b++)
            code += !((b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE);
        code += 256;
    }
    if (code < 128) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xC0 | code >> 6);
    out[1] = (char)(0x80 | (code & 63));
    return 2;
}

/* Does a new word start here? As GPT-2's pattern cuts this text: a blank belongs to the word after it,
 * letters and everything else are apart. */
static bool starts_word(int i)
{
    char c = text[i], before = i ? text[i - 1] : ' ';
    bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
    bool letter_before = (before | 32) >= 'a' && (before | 32) <= 'z';
    return i == 0 || c == ' ' || c == '\n' || (letter != letter_before && before != ' ');
}

/* Learns one merge: the commonest adjacent pair inside words, the lowest ids on a tie. ids [n] holds
 * -1 where a token was swallowed. False when no pair occurs twice. */
static bool learn_merge(int16_t *ids, int n_tokens, int new_id, int *left, int *right)
{
    int *count = calloc((size_t)n_tokens * n_tokens, sizeof *count);
    int before = -1, best = 1;
    for (int i = 0; i < N_TEXT; i++) {
        if (starts_word(i))
            before = -1;
        if (ids[i] < 0)
            continue;
        if (before >= 0)
            count[before * n_tokens + ids[i]]++;
        before = ids[i];
    }
    *left = -1;
    for (int p = 0; p < n_tokens * n_tokens; p++)
        if (count[p] > best) {
            best = count[p];
            *left = p / n_tokens;
            *right = p % n_tokens;
        }
    free(count);
    if (*left < 0)
        return false;
    int last = -1;              /* place of the token before, inside this word */
    for (int i = 0; i < N_TEXT; i++) {
        if (starts_word(i))
            last = -1;
        if (ids[i] < 0)
            continue;
        if (last >= 0 && ids[last] == *left && ids[i] == *right) {
            ids[last] = (int16_t)new_id;
            ids[i] = -1;
        } else {
            last = i;
        }
    }
    return true;
}

void make_vocab(struct make_vocab *v, int n, int max_merges)
{
    v->n = n;
    v->n_merges = 0;
    v->token = calloc((size_t)n, sizeof *v->token);
    v->merge = calloc((size_t)n, sizeof *v->merge);
    v->type = calloc((size_t)n, sizeof *v->type);
    v->readable = calloc((size_t)n, sizeof *v->readable);
    strcpy(v->token[0], "<s>");
    strcpy(v->token[1], "</s>");
    v->type[0] = v->type[1] = 3;
    for (int b = 0; b < 256; b++) {
        letter_of(b, v->token[2 + b]);
        v->type[2 + b] = 1;
        v->readable[2 + b] = b >= ' ' && b <= '~';
    }
    int16_t ids[N_TEXT];
    for (int i = 0; i < N_TEXT; i++)
        ids[i] = (int16_t)(2 + (unsigned char)text[i]);
    int next = MAKE_VOCAB_MIN, left, right;
    while (next < n && v->n_merges < max_merges && learn_merge(ids, next, next, &left, &right)) {
        char a[MAKE_VOCAB_TOKEN_MAX], b[MAKE_VOCAB_TOKEN_MAX];
        memcpy(a, v->token[left], sizeof a);
        memcpy(b, v->token[right], sizeof b);
        snprintf(v->token[next], MAKE_VOCAB_TOKEN_MAX, "%.30s%.30s", a, b);
        snprintf(v->merge[v->n_merges++], MAKE_VOCAB_TOKEN_MAX, "%.30s %.30s", a, b);
        v->readable[next] = true;
        v->type[next++] = 1;
    }
    for (; next < n; next++) {
        snprintf(v->token[next], MAKE_VOCAB_TOKEN_MAX, "[PAD%d]", next);
        v->type[next] = 5;
    }
}

void make_vocab_free(struct make_vocab *v)
{
    free(v->token);
    free(v->merge);
    free(v->type);
    free(v->readable);
    memset(v, 0, sizeof *v);
}
