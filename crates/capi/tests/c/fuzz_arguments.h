/* Arguments by chance, for fuzz.c: numbers, handles, memory, texts, structures. Calls nothing of
 * the library. */
#ifndef FUZZ_ARGUMENTS_H
#define FUZZ_ARGUMENTS_H

#include <stdatomic.h>

#include "check.h"

enum { SLOTS = 6, VOCABULARY = 4096 };

/* The model's file, and a folder that may be written to. */
static const char *file, *folder;

/* Handles of each kind, and numbers that are none. */
enum kind { MODEL, SESSION, OUTPUT, GENERATION, SAMPLER, RESULTS, SCORES, KINDS };
static _Atomic(void *) handles[KINDS][SLOTS];


/* A thread's chance. */
static _Thread_local uint64_t state;

static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}
static size_t below(size_t n) { return (size_t)(chance() % n); }
static int one_in(size_t n) { return below(n) == 0; }

/* Numbers as callers have them: small, and at the ends of their range. */
static uint64_t number(void) {
    static const uint64_t ends[] = {0,          1,          63,        64,        511,     512,
                                    4095,       4096,       INT32_MAX, UINT32_MAX, 1u << 31,
                                    INT64_MAX,  UINT64_MAX, SIZE_MAX / 4};
    return one_in(6) ? ends[below(sizeof ends / sizeof ends[0])] : below(5);
}

/* A handle of a kind, or what somebody mistakes for one. */
static void *handle(enum kind kind) {
    if (one_in(40)) return NULL;
    if (one_in(40)) return (void *)(uintptr_t)number();
    if (one_in(40)) kind = below(KINDS);
    return atomic_load(&handles[kind][below(SLOTS)]);
}

/* Memory of the caller: `room` elements of which `capacity` are said to be there, or NULL. */
static void *buffer(size_t bytes, size_t *capacity) {
    static const size_t sizes[] = {0, 1, 3, 64, 300, VOCABULARY, 3 * VOCABULARY};
    *capacity = sizes[below(sizeof sizes / sizeof sizes[0])];
    if (one_in(12)) {
        if (one_in(2)) *capacity = 0;
        return NULL;
    }
    void *room = calloc(*capacity ? *capacity : 1, bytes);
    CHECK(room != NULL);
    return room;
}

/* Tokens, in memory of exactly their size; freed by the caller. */
static uint32_t *tokens(size_t *n) {
    *n = one_in(10) ? 0 : 1 + below(one_in(8) ? 80 : 8);
    uint32_t *list = malloc(*n * sizeof *list + !*n);
    CHECK(list != NULL);
    for (size_t i = 0; i < *n; i++)
        list[i] = one_in(200) ? (uint32_t)number() : (uint32_t)below(VOCABULARY);
    if (one_in(30)) {
        free(list);
        return NULL;
    }
    return list;
}

/* A text in memory of exactly its size, with or without a NUL. */
static char *text(size_t *bytes) {
    static const char *const parts[] = {
        "It is ", "a truth", "<|endoftext|>", "\xc3\xa9",    "\xff",       "\xf0\x9f\x8c\x8d",
        "\n",     " the",    "\xe2\x80\xa8",  "1234567890", "",           "  "};
    char joined[512] = "";
    for (size_t i = below(8); i > 0; i--)
        strcat(joined, parts[one_in(12) ? 4 : below(sizeof parts / sizeof parts[0])]);
    size_t length = strlen(joined);
    int terminated = one_in(2);
    char *made = malloc(length + 1);
    CHECK(made != NULL);
    memcpy(made, joined, length + 1);
    *bytes = terminated ? GPT2_NUL_TERMINATED : length;
    if (one_in(30)) {
        free(made);
        return NULL;
    }
    return made;
}

static const char *path(char *room) {
    static const char *const names[] = {"a.cache", "b.cache", "c.gguf", "none/x", ""};
    if (one_in(20)) return NULL;
    snprintf(room, 4096, "%s/%s", folder, names[below(5)]);
    return one_in(10) ? file : room;
}

/* Bytes of a structure that may be of any version: a size, and what lies beyond. */
struct padded {
    union {
        gpt2_model_options model;
        gpt2_session_options session;
        gpt2_generate_options generate;
        gpt2_batch batch;
        gpt2_convert_options convert;
        gpt2_model_info info;
        gpt2_memory memory;
        gpt2_continuation continuation;
        gpt2_timings timings;
        gpt2_result result;
        gpt2_score_options score;
        gpt2_text_score of_text;
        gpt2_token_score of_token;
        gpt2_word_score of_word;
        gpt2_perplexity_result perplexity;
    } of;
    unsigned char beyond[64];
};

static void *any_size(struct padded *structure) {
    if (one_in(25)) *(size_t *)structure = below(sizeof *structure);
    if (one_in(25)) structure->beyond[below(64)] = 1;
    return one_in(40) ? NULL : structure;
}

#endif
