/* A model's logits, computed in every way there is. */
#ifndef COMPUTING_H
#define COMPUTING_H

#include <math.h>

#include "check.h"

static const char *TEXT = "It is a truth universally acknowledged, that";

/* Bytes of the demo model's weights when all are f32; with fewer, activations are quantized to
 * eight bits. */
static const size_t ALL_DIGITS = 4 * 5918720;

/* The same work in the same batches: bit-identical. */
static void same(const float *found, const float *expected, size_t count) {
    CHECK(memcmp(found, expected, count * sizeof *found) == 0);
}

/* The same work in another way (tokens together or one by one, plain attention or flash attention)
 * sums in another order, so the last digits differ. In f32 that is all. Where activations are
 * quantized, a last digit can move one to the next of 255 steps. If every one were moved: two
 * errors, each uniform over a step, differ by step / sqrt(6); a step is the largest of 32 values,
 * some 2.2 times their standard deviation, divided by 127. That is 0.7 % of the standard deviation
 * of a product, and 25 products in sequence (four in each of six layers, and the head) add up as
 * squares do, to 3.5 % of the logits' standard deviation. Few are moved: 0.6 % is measured with
 * q8_0, while a text with one different token is 2.9 % away or more. The limit is between the
 * two. */
static void close_to(const gpt2_model *model, const float *found, const float *expected,
                     size_t count) {
    gpt2_model_info info = {.size = sizeof info};
    OK(gpt2_model_get_info(model, &info));
    if (info.mapped_bytes + info.own_bytes >= ALL_DIGITS) {
        for (size_t i = 0; i < count; i++) CHECK(fabsf(found[i] - expected[i]) < 1e-3f);
        return;
    }
    double sum = 0, squares = 0, differences = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)found[i] - expected[i];
        sum += expected[i];
        squares += (double)expected[i] * expected[i];
        differences += difference * difference;
    }
    double spread = sqrt(squares / count - sum / count * (sum / count));
    CHECK(sqrt(differences / count) < 0.02 * spread);
}

/* Tokens one by one, all at once, in a batch of two sequences, after cuts and from a file. */
static void computing(const gpt2_model *model, const char *folder) {
    enum { VOCABULARY = 4096, WIDTH = 256 };
    size_t count, length, kept;
    uint32_t *tokens = tokens_of(model, TEXT, &count);
    static float expected[VOCABULARY], found[VOCABULARY], small[8];
    gpt2_session_options options;
    OK(gpt2_session_options_init(&options, sizeof options));
    CHECK(options.sequences == 1);
    gpt2_session *session;
    options.cache_type = 9;
    FAILS(GPT2_ERROR_ARGUMENT, "cache_type", gpt2_session_new(model, &options, &session));
    CHECK(session == NULL);
    options.cache_type = GPT2_CACHE_F32;
    options.sequences = 2;
    options.context = 64;
    options.threads = 2;
    OK(gpt2_session_new(model, &options, &session));

    FAILS(GPT2_ERROR_BUFFER, "logits", gpt2_prefill(session, 0, tokens, count, small, 8, &length));
    CHECK(length == VOCABULARY);
    OK(gpt2_cache_length(session, 0, &length));
    CHECK(length == 0);
    FAILS(GPT2_ERROR_ARGUMENT, "sequence", gpt2_prefill(session, 2, tokens, count, NULL, 0, NULL));
    FAILS(GPT2_ERROR_ARGUMENT, "sequence",
          gpt2_prefill(session, 4000000000u, tokens, count, NULL, 0, NULL));
    FAILS(GPT2_ERROR_ARGUMENT, "at least one", gpt2_prefill(session, 0, tokens, 0, NULL, 0, NULL));
    FAILS(GPT2_ERROR_ARGUMENT, "NULL", gpt2_prefill(session, 0, NULL, 3, NULL, 0, NULL));
    FAILS(GPT2_ERROR_ARGUMENT, "vocabulary", gpt2_decode(session, 0, VOCABULARY, NULL, 0, NULL));
    OK(gpt2_prefill(session, 0, tokens, count, expected, VOCABULARY, &length));
    for (size_t i = 0; i < count; i++)
        OK(gpt2_decode(session, 1, tokens[i], found, VOCABULARY, NULL));
    close_to(model, found, expected, VOCABULARY);
    OK(gpt2_cache_clear(session));
    OK(gpt2_prefill(session, 0, tokens, count, found, VOCABULARY, NULL));
    same(found, expected, VOCABULARY);

    /* What goes on after a cut, and a fork of what is left: as what was computed in the same two
     * pieces. */
    static float pieces[VOCABULARY];
    OK(gpt2_cache_clear(session));
    OK(gpt2_prefill(session, 0, tokens, 3, NULL, 0, NULL));
    OK(gpt2_prefill(session, 0, tokens + 3, count - 3, pieces, VOCABULARY, NULL));
    close_to(model, pieces, expected, VOCABULARY);
    OK(gpt2_cache_truncate(session, 0, 3));
    OK(gpt2_prefill(session, 0, tokens + 3, count - 3, found, VOCABULARY, NULL));
    same(found, pieces, VOCABULARY);
    OK(gpt2_cache_truncate(session, 0, 3));
    OK(gpt2_cache_fork(session, 0, 1));
    OK(gpt2_prefill(session, 1, tokens + 3, count - 3, found, VOCABULARY, NULL));
    same(found, pieces, VOCABULARY);
    uint32_t other[4] = {tokens[0], tokens[1], tokens[0], tokens[0]};
    OK(gpt2_cache_keep(session, 1, other, 4, &kept));
    CHECK(kept == 2);
    OK(gpt2_cache_tokens(session, 1, other, 4, &length));
    CHECK(length == 2 && other[1] == tokens[1]);
    FAILS(GPT2_ERROR_ARGUMENT, "sequence", gpt2_cache_fork(session, 0, 7));

    /* Saved, and restored into other cells. */
    char file[4096];
    snprintf(file, sizeof file, "%s/cache.safetensors", folder);
    OK(gpt2_prefill(session, 1, tokens + 2, count - 3, NULL, 0, NULL));
    OK(gpt2_cache_save(session, 1, file, 0));
    FAILS(GPT2_ERROR_ARGUMENT, file, gpt2_cache_save(session, 1, file, 0));
    OK(gpt2_cache_save(session, 1, file, 1));
    OK(gpt2_cache_clear(session));
    OK(gpt2_cache_restore(session, 0, file, &length));
    CHECK(length == count - 1);
    OK(gpt2_decode(session, 0, tokens[count - 1], found, VOCABULARY, NULL));
    close_to(model, found, expected, VOCABULARY);
    /* The saved cells were not contiguous, the restored ones are; contiguous cells give the
     * same. */
    OK(gpt2_cache_clear(session));
    OK(gpt2_prefill(session, 1, tokens, count - 1, NULL, 0, NULL));
    OK(gpt2_cache_save(session, 1, file, 1));
    OK(gpt2_decode(session, 1, tokens[count - 1], pieces, VOCABULARY, NULL));
    OK(gpt2_cache_clear(session));
    OK(gpt2_cache_restore(session, 0, file, NULL));
    OK(gpt2_decode(session, 0, tokens[count - 1], found, VOCABULARY, NULL));
    same(found, pieces, VOCABULARY);
    snprintf(file, sizeof file, "%s/none", folder);
    FAILS(GPT2_ERROR_IO, "none", gpt2_cache_restore(session, 0, file, NULL));

    /* Two sequences in one batch; the last output of each. */
    OK(gpt2_cache_clear(session));
    uint32_t both[64], sequences[64];
    uint8_t wanted[64] = {0};
    for (size_t i = 0; i < count; i++) {
        both[2 * i] = both[2 * i + 1] = tokens[i];
        sequences[2 * i] = 0;
        sequences[2 * i + 1] = 1;
    }
    wanted[2 * count - 2] = wanted[2 * count - 1] = 1;
    gpt2_batch batch;
    OK(gpt2_batch_init(&batch, sizeof batch));
    batch.tokens = both;
    batch.n_tokens = 2 * count;
    batch.sequences = sequences;
    batch.wanted = wanted;
    batch.outputs = GPT2_LOGITS | GPT2_HIDDEN_STATES | GPT2_LAST_HIDDEN_STATE | GPT2_ATTENTIONS;
    gpt2_output *output;
    size_t rows, shape[3];
    OK(gpt2_run(session, &batch, &output));
    OK(gpt2_output_rows(output, &rows));
    CHECK(rows == 2);
    static float two[2 * VOCABULARY], last[2 * WIDTH], hidden[2 * WIDTH];
    OK(gpt2_output_read(output, GPT2_LOGITS, 0, two, 2 * VOCABULARY, &length));
    close_to(model, two, expected, VOCABULARY);
    close_to(model, two + VOCABULARY, expected, VOCABULARY);
    OK(gpt2_output_read(output, GPT2_LAST_HIDDEN_STATE, 0, last, 2 * WIDTH, &length));
    OK(gpt2_output_read(output, GPT2_HIDDEN_STATES, 6, hidden, 2 * WIDTH, &length));
    same(hidden, last, 2 * WIDTH);
    FAILS(GPT2_ERROR_ARGUMENT, "layer",
          gpt2_output_read(output, GPT2_HIDDEN_STATES, 7, NULL, 0, NULL));
    FAILS(GPT2_ERROR_ARGUMENT, "layer", gpt2_output_read(output, 3, 0, NULL, 0, NULL));
    OK(gpt2_output_shape(output, GPT2_ATTENTIONS, shape, 3, &length));
    CHECK(length == 3 && shape[0] == 2 && shape[2] == count);
    OK(gpt2_output_free(output));
    FAILS(GPT2_ERROR_HANDLE, "gpt2_output", gpt2_output_rows(output, &rows));

    /* Too many; nothing has changed. */
    for (size_t i = 0; i < 64; i++) both[i] = tokens[0];
    FAILS(GPT2_ERROR_CONTEXT_FULL, "full", gpt2_prefill(session, 0, both, 64, NULL, 0, NULL));
    OK(gpt2_cache_length(session, 0, &length));
    CHECK(length == count);

    /* Stopped until told otherwise. */
    OK(gpt2_session_stop(session, 1));
    CHECK(gpt2_decode(session, 0, tokens[0], NULL, 0, NULL) == GPT2_ERROR_STOPPED);
    OK(gpt2_session_stop(session, 0));
    OK(gpt2_decode(session, 0, tokens[0], NULL, 0, NULL));

    gpt2_memory used = {.size = sizeof used};
    OK(gpt2_session_get_memory(session, &used));
    CHECK(used.cache == 2 * 6 * 64 * WIDTH * sizeof(float) && used.compute > 0 && used.weights > 0);
    OK(gpt2_session_free(session));
    options.memory_limit = 1000;
    FAILS(GPT2_ERROR_MEMORY, "memory", gpt2_session_new(model, &options, &session));
    free(tokens);
}

#endif
