// Writes digests.txt: digests of what ggml's quantizers produce from the values of tests/quantizer_bytes.rs, with ggml compiled as
// llama.cpp does by default for the baseline instruction set of x86-64.
//
//   GGML=.../llama.cpp/ggml; mkdir made
//   sed 's/@GGML_VERSION@/0.28.0/' $GGML/src/ggml-version.h.in > made/ggml-version.h
//   flags="-O3 -w -ffunction-sections -I$GGML/include -I$GGML/src -I$PWD/made -D_GNU_SOURCE -D_XOPEN_SOURCE=600"
//   cd made
//   gcc -std=gnu11 $flags -c $GGML/src/ggml.c $GGML/src/ggml-quants.c
//   g++ $flags -Wl,--gc-sections ../make_digests.cpp $GGML/src/ggml-threading.cpp ggml.o ggml-quants.o -o make_digests
//   ./make_digests > ../digests.txt

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "ggml.h"

static const int64_t COLUMNS = 512, ROWS = 64;

static uint32_t state = 1;

// A sum of four uniform values: exact in f32, so the same on every machine.
static float draw() {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        state = state * 1664525u + 1013904223u;
        sum += (float) (state >> 12) / 1048576.0f - 0.5f;
    }
    return sum;
}

// FNV-1a, 64 bits
static uint64_t digest(const std::vector<uint8_t> & bytes) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint8_t byte : bytes) {
        hash = (hash ^ byte) * 0x100000001b3u;
    }
    return hash;
}

int main() {
    const float scales[8] = {0.02f, 0.0f, 1e-6f, 1000.0f, 0.02f, 1.0f, 0.5f, 0.02f};
    std::vector<float> source(ROWS * COLUMNS), importance(COLUMNS);
    for (int64_t row = 0; row < ROWS; row++) {
        for (int64_t column = 0; column < COLUMNS; column++) {
            source[row * COLUMNS + column] = draw() * scales[row % 8];
        }
    }
    for (float & weight : importance) {
        weight = std::fabs(draw()) + 0.001f;
    }
    const ggml_type types[] = {
        GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,   GGML_TYPE_Q5_0,   GGML_TYPE_Q5_1,
        GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS,
    };
    for (ggml_type type : types) {
        std::vector<uint8_t> plain(ggml_row_size(type, COLUMNS) * ROWS), weighted(plain.size());
        ggml_quantize_chunk(type, source.data(), plain.data(), 0, ROWS, COLUMNS, nullptr);
        ggml_quantize_chunk(type, source.data(), weighted.data(), 0, ROWS, COLUMNS, importance.data());
        printf("%s %016llx %016llx\n", ggml_type_name(type), (unsigned long long) digest(plain), (unsigned long long) digest(weighted));
    }
}
