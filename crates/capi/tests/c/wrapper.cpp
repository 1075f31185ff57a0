// The C++ wrapper: wrapper MODEL.gguf FOLDER
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>

#include <gpt2.hpp>

#define CHECK(condition)                                                                           \
    if (!(condition)) {                                                                            \
        std::cerr << __FILE__ << ":" << __LINE__ << ": " << #condition << '\n';                    \
        std::exit(1);                                                                              \
    }

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const std::string file = argv[1], folder = argv[2];
    gpt2::model model(file);
    const auto info = model.info();
    const auto prompt = model.tokenize("It is a truth universally acknowledged, that");
    CHECK(model.detokenize(prompt) == "It is a truth universally acknowledged, that");
    CHECK(model.token_bytes(prompt[0]) == "It" && !model.is_end(prompt[0]));
    try {
        gpt2::model none("/no/such/file");
        CHECK(false);
    } catch (const gpt2::error &error) {
        CHECK(error.code() == GPT2_ERROR_IO &&
              std::string(error.what()).find("/no/such") != std::string::npos);
    }

    auto session_options = gpt2::options<gpt2_session_options>();
    session_options.sequences = 2;
    session_options.context = 128;
    gpt2::session session(model, session_options);
    auto options = gpt2::options<gpt2_generate_options>();
    options.max_new_tokens = 6;
    std::string heard;
    auto generation = session.generate(prompt, options, [&](const gpt2_step &step) {
        heard.append(step.text, step.text_bytes);
        return true;
    });
    CHECK(generation.size() == 1 && generation.text() == heard && generation.tokens().size() == 6);
    CHECK(generation.timings().decode_tokens == 5 &&
          generation[0].finish_reason == GPT2_FINISH_LENGTH);

    // An exception of the function comes out of the call, and the session goes on.
    try {
        session.generate(prompt, options,
                         [](const gpt2_step &) -> bool { throw std::runtime_error("mine"); });
        CHECK(false);
    } catch (const std::runtime_error &error) {
        CHECK(std::string(error.what()) == "mine");
    }

    session.clear();
    gpt2::sampler sampler(model, prompt, options);
    const auto first = generation.tokens()[0];
    sampler.add([first](float *scores, std::size_t, const std::uint32_t *, std::size_t) {
        scores[first] = -std::numeric_limits<float>::infinity();
    });
    gpt2::sampler moved = std::move(sampler);
    const auto logits = session.prefill(prompt);
    CHECK(logits.size() == info.vocabulary && moved.choose(logits) != first);
    auto scores = logits;
    moved.accept(first);
    moved.process(scores);
    CHECK(std::isinf(scores[first]) && !std::isinf(logits[first]));

    session.fork(0, 1);
    CHECK(session.length(1) == prompt.size() && session.decode(first) == session.decode(first, 1));
    session.save(folder + "/wrapper.cache", 1);
    session.truncate(2, 1);
    CHECK(session.keep(prompt, 1) == 2 &&
          session.restore(folder + "/wrapper.cache", 1) == prompt.size() + 1);
    auto batch = gpt2::options<gpt2_batch>();
    batch.tokens = prompt.data();
    batch.n_tokens = prompt.size();
    batch.outputs = GPT2_LAST_HIDDEN_STATE;
    const auto output = session.run(batch);
    CHECK(output.rows() == prompt.size() && output.shape(GPT2_LAST_HIDDEN_STATE)[1] == info.width);
    CHECK(output.read(GPT2_LAST_HIDDEN_STATE).size() == prompt.size() * info.width);
    CHECK(session.embed("a").size() == info.width && session.memory().weights > 0);
    session.stop();
    try {
        session.prefill(prompt);
        CHECK(false);
    } catch (const gpt2::error &error) {
        CHECK(error.code() == GPT2_ERROR_STOPPED);
    }

    auto convert_options = gpt2::options<gpt2_convert_options>();
    convert_options.file_type = "q4_0";
    gpt2::convert(file, folder + "/wrapper.gguf", convert_options,
                  [](std::uint64_t, std::uint64_t) { return true; });
    gpt2::model(folder + "/wrapper.gguf").info();
    std::cout << "wrapped\n";
}
