/* What the C tests share. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gpt2.h>

/* Ends the program when something does not hold. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\nlast error: %s\n", __FILE__, __LINE__, #condition,         \
                    gpt2_last_error());                                                            \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A call that must succeed. */
#define OK(call) CHECK((call) == GPT2_OK)

/* A call that must fail with a code, and leave a text with a word in it. */
#define FAILS(code, word, call) CHECK((call) == (code) && strstr(gpt2_last_error(), word) != NULL)

/* The tokens of a text, in memory to be freed. */
static inline uint32_t *tokens_of(const gpt2_model *model, const char *text, size_t *count) {
    OK(gpt2_tokenize(model, text, GPT2_NUL_TERMINATED, 0, NULL, 0, count));
    uint32_t *tokens = malloc((*count + 1) * sizeof *tokens);
    CHECK(tokens != NULL);
    OK(gpt2_tokenize(model, text, GPT2_NUL_TERMINATED, 0, tokens, *count, count));
    return tokens;
}

#endif
