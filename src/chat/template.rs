//! Jinja templates, in the surroundings that transformers gives them.
//!
//! A template comes with a model and is not trusted: what it may spend is bounded (steps, and bytes
//! of everything it makes), so is how deep it may nest, and it reaches nothing but the variables it
//! is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use regex_lite::Regex;

use super::message::Message;
use super::python_json;
use super::special_tokens::SpecialTokens;
use crate::{Error, Result};

/// Where errors say they are.
const PLACE: &str = "chat template";
/// The longest template; those in use are below 20,000.
const MAX_BYTES: usize = 256 << 10;
/// Steps of a rendering. 64 bytes of text cost one as well, so this bounds memory: 12 MB.
const FUEL: u64 = 200_000;
/// The stack of a rendering: the deepest value that the fuel buys must be let go without
/// overflowing it.
const STACK_BYTES: usize = 64 << 20;

/// A template that was read without error.
#[derive(Debug, Clone)]
pub(super) struct Template {
    source: Arc<str>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`Error::Format`] for one that is too long or no Jinja, with the line.
    pub(super) fn new(source: &str) -> Result<Self> {
        if source.len() > MAX_BYTES {
            let message = format!("expected at most {MAX_BYTES} bytes, found {}", source.len());
            return Err(Error::format(PLACE, message));
        }
        let source: Arc<str> = without_generation_marks(source).into();
        let template = Self {
            source: Arc::clone(&source),
        };
        apart(move || {
            environment()?
                .template_from_str(&source)
                .map(drop)
                .map_err(|error| failure(&error))
        })?;
        Ok(template)
    }

    /// The prompt for `messages`; with `add_generation_prompt` it ends where the reply begins.
    ///
    /// # Errors
    /// [`Error::Format`] with the template's own complaint (`raise_exception`) or what is wrong
    /// with it.
    pub(super) fn render(
        &self,
        messages: &[Message],
        tokens: &SpecialTokens,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let source = Arc::clone(&self.source);
        let messages = messages.to_vec();
        let tokens = tokens.clone();
        apart(move || {
            let messages: Vec<Value> = messages
                .into_iter()
                .map(|message| context! { role => message.role.name(), content => message.content })
                .collect();
            let mut variables: Vec<(String, Value)> = tokens
                .into_iter()
                .map(|(name, text)| (name, Value::from(text)))
                .collect();
            variables.extend([
                ("messages".to_owned(), Value::from(messages)),
                ("tools".to_owned(), Value::from(())),
                ("documents".to_owned(), Value::from(())),
                (
                    "add_generation_prompt".to_owned(),
                    Value::from(add_generation_prompt),
                ),
            ]);
            let variables: Value = variables.into_iter().collect::<BTreeMap<_, _>>().into();
            environment()?
                .render_str(&source, variables)
                .map_err(|error| failure(&error))
        })
    }
}

/// Runs `work` on a stack of its own.
fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    thread::Builder::new()
        .name(PLACE.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map_err(|error| Error::Memory(format!("no thread for the {PLACE}: {error}")))?
        .join()
        .unwrap_or_else(|_| Err(Error::format(PLACE, "rendering it failed")))
}

/// transformers' environment: blocks leave no lines behind, nothing is escaped, strings have
/// Python's methods.
fn environment() -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| failure(&error))?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", python_json::filter);
    Ok(environment)
}

/// How templates refuse a conversation.
#[allow(
    clippy::needless_pass_by_value,
    reason = "how the engine calls functions"
)]
fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(
        ErrorKind::InvalidOperation,
        // The engine's words before it say nothing more.
        format!("refused: {message}"),
    ))
}

/// The marks around what the model says (`{% generation %}`) matter for training alone.
fn without_generation_marks(source: &str) -> String {
    let replaced = |source: &str, name: &str, instead: &str| -> String {
        Regex::new(&format!(r"\{{%([-+]?)\s*{name}\s*([-+]?)%\}}")).map_or_else(
            |_| source.to_owned(),
            |mark| {
                let instead = format!("{{%${{1}} {instead} ${{2}}%}}");
                mark.replace_all(source, instead.as_str()).into_owned()
            },
        )
    };
    let opened = replaced(source, "generation", "if true");
    replaced(&opened, "endgeneration", "endif")
}

fn failure(error: &minijinja::Error) -> Error {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!("line {line}: "));
    let message = match error.kind() {
        ErrorKind::OutOfFuel => {
            "it takes too long or makes too much text; give another template".to_owned()
        }
        kind => error
            .detail()
            .map_or_else(|| kind.to_string(), str::to_owned),
    };
    Error::format(PLACE, format!("{line}{message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        vec![
            Message::system(" be brief\n"),
            Message::user("hi"),
            Message::assistant("yes?"),
            Message::user("<b>&amp;</b> {{ eos_token }}"),
        ]
    }

    fn render(source: &str) -> Result<String> {
        let tokens = [("eos_token", "</s>"), ("bos_token", "<s>")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into();
        Template::new(source)?.render(&messages(), &tokens, true)
    }

    #[test]
    fn chatml_is_written_as_jinja2_writes_it() {
        let source = "{% for message in messages %}\n    {{'<|im_start|>' + message['role'] \
                      + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}\n{% endfor %}\n\
                      {% if add_generation_prompt %}\n{{ '<|im_start|>assistant\\n' }}\n\
                      {% endif %}\n";
        // trim_blocks takes the newline after a block, lstrip_blocks the space before one, neither
        // touches what is around an expression.
        assert_eq!(
            render(source).unwrap(),
            "    <|im_start|>system\n be brief\n<|im_end|>\n\n\
             \u{20}   <|im_start|>user\nhi<|im_end|>\n\n\
             \u{20}   <|im_start|>assistant\nyes?<|im_end|>\n\n\
             \u{20}   <|im_start|>user\n<b>&amp;</b> {{ eos_token }}<|im_end|>\n\n\
             <|im_start|>assistant\n\n"
        );
    }

    #[test]
    fn what_templates_use_is_there() {
        for (source, expected) in [
            (
                "{{ bos_token }}{{ pad_token }}|{{ messages[0].content | trim }}",
                "<s>|be brief",
            ),
            ("{{ messages[0]['content'].strip() ~ '!' }}", "be brief!"),
            (
                "{{ 'A b'.upper().split(' ')[-1] }}{{ messages[1:] | length }}",
                "B3",
            ),
            (
                "{% if tools is none and not documents %}x{% endif %}\n",
                "x",
            ),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'user' %}\
                 {% set ns.n = ns.n + 1 %}{% else %}{% continue %}{% endif %}{% if loop.last %}l\
                 {% endif %}{% endfor %}{{ ns.n }}",
                "l2",
            ),
            ("{% for m in messages %}{% break %}{% endfor %}", ""),
            (
                "{%- macro f(x) -%} [{{ x }}] {%- endmacro -%} {{ f(1) }}",
                "[1]",
            ),
            ("a{%- generation -%} b {%- endgeneration %}c", "abc"),
            (
                "{{ {'b': [1, 2.5, none, true], 'a': '<é\"\\n'} | tojson }}",
                "{\"b\": [1, 2.5, null, true], \"a\": \"<é\\\"\\n\"}",
            ),
            ("{{ [1, {}] | tojson(indent=2) }}", "[\n  1,\n  {}\n]"),
            ("{{ [] | tojson(indent=2) }}{{ missing }}", "[]"),
        ] {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn refusals_and_errors_are_reported() {
        for (source, said) in [
            ("{{ raise_exception('no system role') }}", "no system role"),
            ("\n{% if %}", "chat template: line 2: "),
            ("{{ nothing.more }}", "undefined"),
            ("{{ 1 | no_such_filter }}", "no_such_filter"),
            ("{% include 'other' %}", "include"),
            ("{{ strftime_now('%d') }}", "strftime_now"),
        ] {
            let message = render(source).unwrap_err().to_string();
            assert!(message.contains(said), "{source}: {message}");
        }
        let long = "x".repeat(MAX_BYTES + 1);
        assert!(render(&long).unwrap_err().to_string().contains("at most"));
    }

    #[test]
    fn hostile_templates_end_in_an_error() {
        let nested = "[".repeat(100_000);
        let hostile = [
            // Time.
            "{% for i in range(99999) %}{% for j in range(99999) %}{{ j.x }}{% endfor %}\
             {% endfor %}",
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
            // Memory.
            "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}\
             {% endfor %}",
            "{% set n = namespace(s='ab') %}{% for i in range(60) %}\
             {% set n.s = n.s.replace('a', 'aaaa') %}{% endfor %}",
            "{{ 'x' * 1000000000000 }}",
            "{{ ('x' * 100000) | tojson | tojson | replace('x', 'x' * 100000) }}",
            "{{ '%1000000000d' | format(3) }}",
            // Depth.
            "{% set n = namespace(x=[]) %}{% for i in range(99999) %}{% set n.x = [n.x] %}\
             {% endfor %}",
            "{% set n = namespace(x=[]) %}{% for i in range(9000) %}{% set n.x = [n.x] %}\
             {% endfor %}{{ n.x | tojson }}",
            "{% set n = namespace(x={}) %}{% for i in range(99999) %}\
             {% set n.x = {'a': n.x} %}{% endfor %}",
            &format!("{{{{ {nested} }}}}"),
        ];
        for source in hostile {
            let message = render(source).unwrap_err().to_string();
            assert!(message.starts_with("chat template: "), "{message}");
        }
    }
}
