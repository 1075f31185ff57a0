/* The similarity of two texts to a model: embed MODEL.gguf TEXT TEXT
 * Prints the cosine of the angle between the means of their hidden states. */
#include <stdio.h>
#include <stdlib.h>

#include <gpt2.h>

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL.gguf TEXT TEXT\n", argv[0]);
        return 2;
    }
    gpt2_model *model = NULL;
    gpt2_session *session = NULL;
    float *vectors[2] = {NULL, NULL};
    size_t width = 0;
    gpt2_status status = gpt2_model_load(argv[1], NULL, &model);
    if (status == GPT2_OK) status = gpt2_session_new(model, NULL, &session);
    for (int text = 0; text < 2 && status == GPT2_OK; text++) {
        gpt2_model_info info = {.size = sizeof info};
        gpt2_model_get_info(model, &info);
        vectors[text] = malloc(info.width * sizeof(float));
        if (vectors[text] == NULL) break;
        status = gpt2_embed(session, argv[2 + text], GPT2_NUL_TERMINATED, GPT2_POOLING_MEAN, 1,
                            vectors[text], info.width, &width);
    }
    if (status < 0) {
        fprintf(stderr, "error: %s\n", gpt2_last_error());
    } else if (vectors[1] != NULL) {
        double cosine = 0;
        for (size_t i = 0; i < width; i++) cosine += (double)vectors[0][i] * vectors[1][i];
        printf("%.6f\n", cosine);
    }
    free(vectors[0]);
    free(vectors[1]);
    gpt2_session_free(session);
    gpt2_model_free(model);
    return status < 0;
}
