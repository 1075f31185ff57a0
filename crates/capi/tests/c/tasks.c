/* The heads, printed as the commands print them: tasks TASK MODEL.gguf TEXT... */
#include "check.h"

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *task = argv[1], *text = argv[3];
    gpt2_model *model;
    gpt2_session *session;
    gpt2_results *results = NULL;
    gpt2_model_info info = {.size = sizeof info};
    OK(gpt2_model_load(argv[2], NULL, &model));
    OK(gpt2_model_get_info(model, &info));
    OK(gpt2_session_new(model, NULL, &session));
    if (strcmp(task, "embed") == 0) {
        float *vector = malloc(info.width * sizeof *vector);
        size_t length;
        OK(gpt2_embed(session, text, GPT2_NUL_TERMINATED, GPT2_POOLING_MEAN, 1, vector, info.width,
                      &length));
        CHECK(length == info.width);
        for (size_t i = 0; i < length; i++) printf("%.9g\n", vector[i]);
        free(vector);
    } else if (strcmp(task, "classify") == 0) {
        OK(gpt2_classify(session, text, strlen(text), GPT2_SCORES_DEFAULT, &results));
        CHECK(gpt2_results_count(results) == info.labels);
    } else if (strcmp(task, "tag") == 0) {
        OK(gpt2_tag(session, text, strlen(text), GPT2_TAG_TOKENS, &results));
        OK(gpt2_results_free(results));
        OK(gpt2_tag(session, text, strlen(text), GPT2_TAG_ENTITIES, &results));
        OK(gpt2_results_free(results));
        OK(gpt2_tag(session, text, strlen(text), GPT2_TAG_WORDS_FIRST, &results));
    } else if (strcmp(task, "answer") == 0) {
        OK(gpt2_answer(session, argv[4], strlen(argv[4]), text, strlen(text), 2, 0, &results));
    } else if (strcmp(task, "choose") == 0) {
        OK(gpt2_choose(session, text, (const char *const *)argv + 4, (size_t)argc - 4, &results));
    }
    for (size_t i = 0; i < gpt2_results_count(results); i++) {
        gpt2_result row = {.size = sizeof row};
        OK(gpt2_results_get(results, i, &row));
        if (strcmp(task, "classify") == 0) {
            char label[256];
            size_t length;
            OK(gpt2_model_label(model, row.id, label, sizeof label, &length));
            CHECK(strcmp(label, row.label) == 0 && length == strlen(label));
            if (i == 0) printf("%s\t%.4f\t%s\n", row.label, row.score, text);
        } else if (strcmp(task, "tag") == 0) {
            printf("%zu\t%zu\t%.4f\t%s\t%s\n", row.start, row.end, row.score, row.label, row.text);
        } else if (strcmp(task, "answer") == 0) {
            printf("%.4f\t%s\n", row.score, row.text);
        } else {
            printf("%zu\t%.4f\t%s\n", (size_t)row.id, row.score, row.text);
        }
    }
    OK(gpt2_results_free(results));
    OK(gpt2_session_free(session));
    OK(gpt2_model_free(model));
    return 0;
}
