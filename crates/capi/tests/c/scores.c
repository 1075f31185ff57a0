/* Scores of texts, printed as gpt2 score --summary prints them: scores MODEL.gguf TEXT... */
#include <math.h>

#include "check.h"

static gpt2_token_score token(const gpt2_scores *scores, size_t text, size_t number) {
    gpt2_token_score score = {.size = sizeof score};
    OK(gpt2_scores_token(scores, text, number, &score));
    return score;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *const *texts = (const char *const *)argv + 2;
    const size_t n_texts = (size_t)argc - 2;
    gpt2_model *model;
    gpt2_session *session;
    gpt2_scores *scores;
    OK(gpt2_model_load(argv[1], NULL, &model));
    gpt2_session_options several;
    OK(gpt2_session_options_init(&several, sizeof several));
    several.sequences = 4;
    OK(gpt2_session_new(model, &several, &session));

    gpt2_score_options options;
    OK(gpt2_score_options_init(&options, sizeof options));
    options.bos = 1;
    options.ranks = 1;
    options.entropies = 1;
    options.top = 3;
    OK(gpt2_score(session, texts, n_texts, &options, &scores));
    CHECK(gpt2_scores_count(scores) == n_texts);
    for (size_t i = 0; i < n_texts; i++) {
        gpt2_text_score text = {.size = sizeof text};
        OK(gpt2_scores_get(scores, i, &text));
        CHECK(text.n_scored == text.n_tokens && text.n_windows == 1);
        double sum = 0;
        for (size_t t = 0; t < text.n_tokens; t++) {
            const gpt2_token_score found = token(scores, i, t);
            CHECK(found.rank >= 1 && found.entropy > 0 && found.n_top == 3);
            sum += found.logprob;
            for (size_t place = 0; place < found.n_top; place++) {
                gpt2_token_score likely = {.size = sizeof likely};
                OK(gpt2_scores_top(scores, i, t, place, &likely));
                CHECK(likely.rank == place + 1 && likely.logprob <= 0);
                CHECK((likely.id == found.id) == (found.rank == place + 1));
            }
            gpt2_token_score beyond = {.size = sizeof beyond};
            FAILS(GPT2_ERROR_ARGUMENT, "place", gpt2_scores_top(scores, i, t, 3, &beyond));
        }
        CHECK(fabs(sum - text.sum) < 1e-9);
        double words = 0;
        size_t next = 0;
        for (size_t w = 0; w < text.n_words; w++) {
            gpt2_word_score word = {.size = sizeof word};
            OK(gpt2_scores_word(scores, i, w, &word));
            CHECK(word.first_token == next && word.start < word.end);
            next += word.n_tokens;
            words += word.logprob;
        }
        CHECK(next == text.n_tokens && fabs(words - text.sum) < 1e-9);
        printf("%.4f\t%.4f\t%.4f\t%zu\t%s\n", text.sum, text.mean, text.perplexity, text.n_scored,
               texts[i]);
        gpt2_word_score beyond = {.size = sizeof beyond};
        FAILS(GPT2_ERROR_ARGUMENT, "word",
              gpt2_scores_word(scores, i, text.n_words, &beyond));
    }
    gpt2_text_score unused = {.size = sizeof unused};
    FAILS(GPT2_ERROR_ARGUMENT, "text", gpt2_scores_get(scores, n_texts, &unused));
    OK(gpt2_scores_free(scores));
    FAILS(GPT2_ERROR_HANDLE, "gpt2_scores", gpt2_scores_get(scores, 0, &unused));

    /* Tokens, the first of them context. */
    size_t count;
    uint32_t *ids = tokens_of(model, texts[0], &count);
    CHECK(count >= 2);
    OK(gpt2_score_tokens(session, ids, count, 0, NULL, &scores));
    CHECK(isnan(token(scores, 0, 0).logprob));
    const double last = token(scores, 0, count - 1).logprob;
    OK(gpt2_scores_free(scores));
    OK(gpt2_score_tokens(session, ids, count, count - 1, NULL, &scores));
    const gpt2_token_score alone = token(scores, 0, 0);
    CHECK(alone.id == ids[count - 1] && fabs(alone.logprob - last) < 1e-4);
    CHECK(alone.rank == 0 && isnan(alone.entropy));
    OK(gpt2_scores_free(scores));
    FAILS(GPT2_ERROR_ARGUMENT, "n_context",
          gpt2_score_tokens(session, ids, count, count + 1, NULL, &scores));
    FAILS(GPT2_ERROR_ARGUMENT, "bos",
          gpt2_score_tokens(session, ids, count, 0, &options, &scores));
    CHECK(scores == NULL || gpt2_scores_count(scores) == 0);
    OK(gpt2_score(session, NULL, 0, NULL, &scores));
    CHECK(gpt2_scores_count(scores) == 0);
    OK(gpt2_scores_free(scores));
    options.stride = SIZE_MAX;
    FAILS(GPT2_ERROR_ARGUMENT, "stride", gpt2_score(session, texts, n_texts, &options, &scores));
    options.stride = 0;
    options.batching = 7;
    FAILS(GPT2_ERROR_ARGUMENT, "batching", gpt2_score(session, texts, n_texts, &options, &scores));

    /* Perplexity is the text's own score without a stride, where one window holds it. */
    gpt2_perplexity_result perplexity = {.size = sizeof perplexity};
    OK(gpt2_perplexity(session, texts[0], GPT2_NUL_TERMINATED, 0, 0, &perplexity));
    CHECK(perplexity.windows == 1 && perplexity.tokens == count - 1 && perplexity.left_out == 0);
    CHECK(fabs(exp(perplexity.nll_sum / (double)perplexity.tokens) - perplexity.perplexity) < 1e-9);
    OK(gpt2_perplexity(session, texts[0], GPT2_NUL_TERMINATED, 2, 1, &perplexity));
    FAILS(GPT2_ERROR_ARGUMENT, "window",
          gpt2_perplexity(session, texts[0], GPT2_NUL_TERMINATED, 1, 0, &perplexity));
    FAILS(GPT2_ERROR_ARGUMENT, "stride",
          gpt2_perplexity(session, texts[0], GPT2_NUL_TERMINATED, 2, 3, &perplexity));

    /* What a generation held its tokens for. */
    const char *parameters[] = {"logprobs=2", "max_new_tokens=3"};
    gpt2_generate_options generating;
    OK(gpt2_generate_options_init(&generating, sizeof generating));
    generating.parameters = parameters;
    generating.n_parameters = 2;
    gpt2_generation *generation;
    OK(gpt2_generate(session, ids, count, &generating, NULL, NULL, &generation));
    gpt2_token_score first = {.size = sizeof first}, likely = first;
    OK(gpt2_generation_logprob(generation, 0, 0, &first));
    CHECK(first.n_top == 2);
    /* Greedy: the likeliest. */
    OK(gpt2_generation_top(generation, 0, 0, 0, &likely));
    CHECK(likely.id == first.id && likely.logprob == first.logprob);
    FAILS(GPT2_ERROR_ARGUMENT, "place", gpt2_generation_top(generation, 0, 0, 2, &likely));
    FAILS(GPT2_ERROR_ARGUMENT, "logprobs", gpt2_generation_logprob(generation, 0, 3, &likely));
    OK(gpt2_generation_free(generation));

    /* Choices by likelihood: their probabilities, and the sums of their log-probabilities. */
    gpt2_results *choices;
    OK(gpt2_choose(session, "She was", texts, n_texts, &choices));
    float total = 0;
    for (size_t i = 0; i < gpt2_results_count(choices); i++) {
        gpt2_result row = {.size = sizeof row};
        OK(gpt2_results_get(choices, i, &row));
        CHECK(row.logit < 0);
        total += row.score;
    }
    CHECK(fabsf(total - 1) < 1e-5f);
    OK(gpt2_results_free(choices));
    free(ids);
    OK(gpt2_session_free(session));
    OK(gpt2_model_free(model));
    return 0;
}
