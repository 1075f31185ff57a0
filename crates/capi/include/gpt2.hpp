// gpt2.hpp: gpt2.h for C++17, header only. Handles are freed by their destructors, failures are
// exceptions.
//
//     gpt2::model model("model.gguf");
//     gpt2::session session(model);
//     session.generate(model.tokenize("It was a dark night"), {}, [](const gpt2_step &step) {
//         std::cout << std::string_view(step.text, step.text_bytes);
//         return true; // go on
//     });
//
// What gpt2.h says of threads, forks and lifetimes holds here too. Options are its structures:
// gpt2::options<T>() gives one with its defaults, for which {} stands as well.
//
//     auto loading = gpt2::options<gpt2_model_options>();
//     const char *devices[] = {"cuda0"}; // as `gpt2 devices` lists them
//     loading.devices = devices;
//     loading.n_devices = 1;
//     loading.gpu_layers = 8;
//     gpt2::model model("model.gguf", loading);
//
// Everything has a get() for the functions that are not wrapped.
#ifndef GPT2_HPP
#define GPT2_HPP

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2.h"

namespace gpt2 {

// A call that failed: what() is gpt2_last_error().
class error : public std::runtime_error {
  public:
    explicit error(gpt2_status code) : std::runtime_error(gpt2_last_error()), code_(code) {}
    // One of GPT2_ERROR_.
    gpt2_status code() const noexcept { return code_; }

  private:
    gpt2_status code_;
};

// Throws what a call reports.
inline void check(gpt2_status status) {
    if (status < 0) throw error(status);
}

// Options with their defaults: options<gpt2_session_options>().
template <class T> T options();
#define GPT2_OPTIONS(type)                                                                         \
    template <> inline type options<type>() {                                                      \
        type value;                                                                                \
        check(type##_init(&value, sizeof value));                                                  \
        return value;                                                                              \
    }
GPT2_OPTIONS(gpt2_score_options)
GPT2_OPTIONS(gpt2_model_options)
GPT2_OPTIONS(gpt2_session_options)
GPT2_OPTIONS(gpt2_batch)
GPT2_OPTIONS(gpt2_generate_options)
GPT2_OPTIONS(gpt2_convert_options)
#undef GPT2_OPTIONS

// Options that a function takes: those given, or with {} the defaults. A structure that was not
// initialized has a size of 0, which is refused.
template <class T> class settings {
  public:
    settings() : value_(options<T>()) {}
    settings(const T &value) : value_(value) {}
    const T *get() const noexcept { return &value_; }

  private:
    T value_;
};

namespace detail {

template <class T, gpt2_status (*Free)(T *)> struct free_handle {
    void operator()(T *handle) const noexcept { Free(handle); }
};
template <class T, gpt2_status (*Free)(T *)>
using handle = std::unique_ptr<T, free_handle<T, Free>>;

// Fills a vector by a function that reports the length it needs.
template <class T, class Fill> std::vector<T> filled(std::size_t guess, Fill fill) {
    std::vector<T> values(guess);
    std::size_t length = 0;
    gpt2_status status = fill(values.data(), values.size(), &length);
    if (status == GPT2_ERROR_BUFFER || (status == GPT2_OK && values.empty() && length > 0)) {
        values.resize(length);
        status = fill(values.data(), values.size(), &length);
    }
    check(status);
    values.resize(length);
    return values;
}

// Fills a string by a function that reports the length it needs without the NUL.
template <class Fill> std::string filled_text(Fill fill) {
    std::size_t length = 0;
    check(fill(static_cast<char *>(nullptr), std::size_t{0}, &length));
    std::string text(length + 1, '\0');
    check(fill(text.data(), text.size(), &length));
    text.resize(length);
    return text;
}

// Carries exceptions of a function across C.
template <class Function> struct carried {
    Function &function;
    std::exception_ptr thrown;

    // Whether to go on.
    template <class... Arguments> bool operator()(Arguments &&...arguments) noexcept {
        try {
            return function(std::forward<Arguments>(arguments)...);
        } catch (...) {
            thrown = std::current_exception();
            return false;
        }
    }
    void rethrow() const {
        if (thrown) std::rethrow_exception(thrown);
    }
};

} // namespace detail

using tokens = std::vector<std::uint32_t>;

class model {
  public:
    explicit model(const std::string &file,
                   const settings<gpt2_model_options> &opts = {}) {
        gpt2_model *made = nullptr;
        check(gpt2_model_load(file.c_str(), opts.get(), &made));
        handle_.reset(made);
    }
    // A file in memory, which is copied; gpt2_model_load_memory can do without.
    model(const std::uint8_t *data, std::size_t bytes,
          const settings<gpt2_model_options> &opts = {}) {
        gpt2_model *made = nullptr;
        check(gpt2_model_load_memory(data, bytes, opts.get(), nullptr, nullptr, &made));
        handle_.reset(made);
    }

    gpt2_model_info info() const {
        gpt2_model_info info{};
        info.size = sizeof info;
        check(gpt2_model_get_info(get(), &info));
        return info;
    }
    std::string label(std::size_t number) const {
        return detail::filled_text([&](char *text, std::size_t capacity, std::size_t *length) {
            return gpt2_model_label(get(), number, text, capacity, length);
        });
    }
    gpt2::tokens tokenize(std::string_view text, std::uint32_t flags = 0) const {
        return detail::filled<std::uint32_t>(
            text.size() + 8, [&](std::uint32_t *ids, std::size_t capacity, std::size_t *length) {
                return gpt2_tokenize(get(), text.data(), text.size(), flags, ids, capacity, length);
            });
    }
    std::string detokenize(const gpt2::tokens &ids, std::uint32_t flags = 0) const {
        return detail::filled_text([&](char *text, std::size_t capacity, std::size_t *length) {
            return gpt2_detokenize(get(), ids.data(), ids.size(), flags, text, capacity, length);
        });
    }
    // The bytes of one token, which need not be whole characters.
    std::string token_bytes(std::uint32_t token) const {
        const auto bytes = detail::filled<std::uint8_t>(
            64, [&](std::uint8_t *to, std::size_t capacity, std::size_t *length) {
                return gpt2_token_bytes(get(), token, to, capacity, length);
            });
        return std::string(bytes.begin(), bytes.end());
    }
    bool is_end(std::uint32_t token) const {
        std::int32_t end = 0;
        check(gpt2_token_is_end(get(), token, &end));
        return end != 0;
    }
    gpt2_model *get() const noexcept { return handle_.get(); }

  private:
    detail::handle<gpt2_model, gpt2_model_free> handle_;
};

// Continuations of a prompt.
class generation {
  public:
    explicit generation(gpt2_generation *made) : handle_(made) {}
    std::size_t size() const noexcept { return gpt2_generation_count(get()); }
    gpt2_continuation operator[](std::size_t index) const {
        gpt2_continuation found{};
        found.size = sizeof found;
        check(gpt2_generation_get(get(), index, &found));
        return found;
    }
    std::string text(std::size_t index = 0) const {
        const gpt2_continuation found = (*this)[index];
        return std::string(found.text, found.text_bytes);
    }
    gpt2::tokens tokens(std::size_t index = 0) const {
        const gpt2_continuation found = (*this)[index];
        return gpt2::tokens(found.tokens, found.tokens + found.n_tokens);
    }
    gpt2_timings timings() const {
        gpt2_timings found{};
        found.size = sizeof found;
        check(gpt2_generation_get_timings(get(), &found));
        return found;
    }
    gpt2_generation *get() const noexcept { return handle_.get(); }

  private:
    detail::handle<gpt2_generation, gpt2_generation_free> handle_;
};

// Rows of a task; the pointers in them stay as long as this.
class results {
  public:
    explicit results(gpt2_results *made) : handle_(made) {}
    std::size_t size() const noexcept { return gpt2_results_count(get()); }
    gpt2_result operator[](std::size_t index) const {
        gpt2_result found{};
        found.size = sizeof found;
        check(gpt2_results_get(get(), index, &found));
        return found;
    }
    gpt2_results *get() const noexcept { return handle_.get(); }

  private:
    detail::handle<gpt2_results, gpt2_results_free> handle_;
};

// Scores of texts.
class scores {
  public:
    explicit scores(gpt2_scores *made) : handle_(made) {}
    std::size_t size() const noexcept { return gpt2_scores_count(get()); }
    gpt2_text_score operator[](std::size_t text) const {
        gpt2_text_score found{};
        found.size = sizeof found;
        check(gpt2_scores_get(get(), text, &found));
        return found;
    }
    gpt2_token_score token(std::size_t text, std::size_t token) const {
        gpt2_token_score found{};
        found.size = sizeof found;
        check(gpt2_scores_token(get(), text, token, &found));
        return found;
    }
    gpt2_token_score top(std::size_t text, std::size_t token, std::size_t place) const {
        gpt2_token_score found{};
        found.size = sizeof found;
        check(gpt2_scores_top(get(), text, token, place, &found));
        return found;
    }
    gpt2_word_score word(std::size_t text, std::size_t word) const {
        gpt2_word_score found{};
        found.size = sizeof found;
        check(gpt2_scores_word(get(), text, word, &found));
        return found;
    }
    gpt2_scores *get() const noexcept { return handle_.get(); }

  private:
    detail::handle<gpt2_scores, gpt2_scores_free> handle_;
};

// What came out of a batch.
class output {
  public:
    explicit output(gpt2_output *made) : handle_(made) {}
    std::size_t rows() const {
        std::size_t rows = 0;
        check(gpt2_output_rows(get(), &rows));
        return rows;
    }
    std::vector<std::size_t> shape(std::uint32_t what) const {
        return detail::filled<std::size_t>(
            3, [&](std::size_t *to, std::size_t capacity, std::size_t *length) {
                return gpt2_output_shape(get(), what, to, capacity, length);
            });
    }
    std::vector<float> read(std::uint32_t what, std::size_t layer = 0) const {
        return detail::filled<float>(0, [&](float *to, std::size_t capacity, std::size_t *length) {
            return gpt2_output_read(get(), what, layer, to, capacity, length);
        });
    }
    gpt2_output *get() const noexcept { return handle_.get(); }

  private:
    detail::handle<gpt2_output, gpt2_output_free> handle_;
};

// One user of a model, on one thread at a time.
class session {
  public:
    // Is handed every token, then the end of each continuation; false ends the generation.
    using on_step = std::function<bool(const gpt2_step &)>;

    explicit session(const model &of,
                     const settings<gpt2_session_options> &opts = {}) {
        gpt2_session *made = nullptr;
        check(gpt2_session_new(of.get(), opts.get(), &made));
        handle_.reset(made);
        vocabulary_ = of.info().vocabulary;
        width_ = of.info().width;
    }

    // Appends tokens to a sequence; the logits of the last.
    std::vector<float> prefill(const gpt2::tokens &ids, std::uint32_t sequence = 0) {
        std::vector<float> logits(vocabulary_);
        check(gpt2_prefill(get(), sequence, ids.data(), ids.size(), logits.data(), logits.size(),
                           nullptr));
        return logits;
    }
    std::vector<float> decode(std::uint32_t token, std::uint32_t sequence = 0) {
        return prefill({token}, sequence);
    }
    output run(const settings<gpt2_batch> &batch) {
        gpt2_output *made = nullptr;
        check(gpt2_run(get(), batch.get(), &made));
        return output(made);
    }
    generation generate(const gpt2::tokens &prompt,
                        const settings<gpt2_generate_options> &opts = {},
                        on_step function = {}) {
        detail::carried<on_step> carried{function, nullptr};
        const auto callback = [](const gpt2_step *step, void *user_data) -> std::int32_t {
            return (*static_cast<detail::carried<on_step> *>(user_data))(*step) ? 0 : 1;
        };
        gpt2_generation *made = nullptr;
        const gpt2_status status = gpt2_generate(get(), prompt.data(), prompt.size(), opts.get(),
                                                 function ? +callback : nullptr, &carried, &made);
        generation result(made);
        carried.rethrow();
        check(status);
        return result;
    }

    std::size_t length(std::uint32_t sequence = 0) const {
        std::size_t length = 0;
        check(gpt2_cache_length(get(), sequence, &length));
        return length;
    }
    void truncate(std::size_t length, std::uint32_t sequence = 0) {
        check(gpt2_cache_truncate(get(), sequence, length));
    }
    std::size_t keep(const gpt2::tokens &ids, std::uint32_t sequence = 0) {
        std::size_t kept = 0;
        check(gpt2_cache_keep(get(), sequence, ids.data(), ids.size(), &kept));
        return kept;
    }
    void fork(std::uint32_t from, std::uint32_t to) { check(gpt2_cache_fork(get(), from, to)); }
    void clear() { check(gpt2_cache_clear(get())); }
    void save(const std::string &file, std::uint32_t sequence = 0, bool overwrite = false) const {
        check(gpt2_cache_save(get(), sequence, file.c_str(), overwrite ? 1 : 0));
    }
    std::size_t restore(const std::string &file, std::uint32_t sequence = 0) {
        std::size_t length = 0;
        check(gpt2_cache_restore(get(), sequence, file.c_str(), &length));
        return length;
    }
    // From any thread.
    void stop(bool stopped = true) { check(gpt2_session_stop(get(), stopped ? 1 : 0)); }
    gpt2_memory memory() const {
        gpt2_memory found{};
        found.size = sizeof found;
        check(gpt2_session_get_memory(get(), &found));
        return found;
    }

    results classify(std::string_view text, std::int32_t scores = GPT2_SCORES_DEFAULT) {
        gpt2_results *made = nullptr;
        check(gpt2_classify(get(), text.data(), text.size(), scores, &made));
        return results(made);
    }
    results tag(std::string_view text, std::int32_t rows = GPT2_TAG_WORDS_FIRST) {
        gpt2_results *made = nullptr;
        check(gpt2_tag(get(), text.data(), text.size(), rows, &made));
        return results(made);
    }
    results answer(std::string_view question, std::string_view context, std::size_t max_answers = 1,
                   std::size_t max_tokens = 15) {
        gpt2_results *made = nullptr;
        check(gpt2_answer(get(), question.data(), question.size(), context.data(), context.size(),
                          max_answers, max_tokens, &made));
        return results(made);
    }
    results choose(const std::string &prompt, const std::vector<std::string> &choices) {
        std::vector<const char *> pointers;
        for (const std::string &choice : choices) pointers.push_back(choice.c_str());
        gpt2_results *made = nullptr;
        check(gpt2_choose(get(), prompt.c_str(), pointers.data(), pointers.size(), &made));
        return results(made);
    }
    scores score(const std::vector<std::string> &texts,
                 const settings<gpt2_score_options> &opts = {}) {
        std::vector<const char *> pointers;
        for (const std::string &text : texts) pointers.push_back(text.c_str());
        gpt2_scores *made = nullptr;
        check(gpt2_score(get(), pointers.data(), pointers.size(), opts.get(), &made));
        return scores(made);
    }
    gpt2_perplexity_result perplexity(std::string_view text, std::size_t window = 0,
                                      std::size_t stride = 0) {
        gpt2_perplexity_result found{};
        found.size = sizeof found;
        check(gpt2_perplexity(get(), text.data(), text.size(), window, stride, &found));
        return found;
    }
    std::vector<float> embed(std::string_view text, std::int32_t pooling = GPT2_POOLING_LAST,
                             bool normalize = false) {
        std::vector<float> vector(width_);
        check(gpt2_embed(get(), text.data(), text.size(), pooling, normalize ? 1 : 0, vector.data(),
                         vector.size(), nullptr));
        return vector;
    }
    gpt2_session *get() const noexcept { return handle_.get(); }

  private:
    detail::handle<gpt2_session, gpt2_session_free> handle_;
    std::size_t vocabulary_ = 0;
    std::size_t width_ = 0;
};

// The choice of tokens from logits.
class sampler {
  public:
    // Changes scores in place in the light of the tokens so far; must not throw.
    using processor = std::function<void(float *scores, std::size_t n_scores,
                                         const std::uint32_t *ids, std::size_t n_ids)>;

    sampler(const model &of, const gpt2::tokens &prompt,
            const settings<gpt2_generate_options> &opts = {}) {
        gpt2_sampler *made = nullptr;
        check(gpt2_sampler_new(of.get(), opts.get(), prompt.data(), prompt.size(), &made));
        handle_.reset(made);
    }
    void add(processor function) {
        processors_.push_back(std::make_unique<processor>(std::move(function)));
        const auto callback = [](float *scores, std::size_t n_scores, const std::uint32_t *ids,
                                 std::size_t n_ids, void *user_data) noexcept {
            (*static_cast<processor *>(user_data))(scores, n_scores, ids, n_ids);
        };
        check(gpt2_sampler_add(get(), callback, processors_.back().get()));
    }
    std::uint32_t choose(const std::vector<float> &logits) {
        std::uint32_t token = 0;
        check(gpt2_sampler_choose(get(), logits.data(), logits.size(), &token));
        return token;
    }
    void process(std::vector<float> &logits) {
        check(gpt2_sampler_process(get(), logits.data(), logits.size()));
    }
    void accept(std::uint32_t token) { check(gpt2_sampler_accept(get(), token)); }
    gpt2_sampler *get() const noexcept { return handle_.get(); }

  private:
    std::vector<std::unique_ptr<processor>> processors_; // outlive the handle that calls them
    detail::handle<gpt2_sampler, gpt2_sampler_free> handle_;
};

// Converts a checkpoint, or quantizes a GGUF file; `progress` (written, total) ends it with false.
inline void convert(const std::string &source, const std::string &output,
                    const settings<gpt2_convert_options> &opts,
                    std::function<bool(std::uint64_t, std::uint64_t)> progress = {}) {
    using function_type = std::function<bool(std::uint64_t, std::uint64_t)>;
    detail::carried<function_type> carried{progress, nullptr};
    const auto callback = [](std::uint64_t written, std::uint64_t total,
                             void *user_data) -> std::int32_t {
        return (*static_cast<detail::carried<function_type> *>(user_data))(written, total) ? 0 : 1;
    };
    const gpt2_status status = gpt2_convert(source.c_str(), output.c_str(), opts.get(),
                                            progress ? +callback : nullptr, &carried);
    carried.rethrow();
    check(status);
}

} // namespace gpt2

#endif // GPT2_HPP
