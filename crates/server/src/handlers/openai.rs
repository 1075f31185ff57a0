//! OpenAI's endpoints.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::Value as Json;

use super::common::{Body, Handlers, document, plan, text};
use super::run;
use super::sse::{Format, stream};
use crate::error::ApiError;
use crate::protocol::chat::{self, Trimmer};
use crate::protocol::completions;
use crate::protocol::embeddings;
use crate::protocol::{Choice, Form, Head, Piece, Served, Tokens, returned};

/// `POST /v1/completions`.
pub(super) async fn completions(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    let served = &handlers.served;
    let completions::Plan { generation, form } = plan(body, served, completions::Plan::of).await?;
    let head = Head::new("cmpl", "text_completion");
    respond(&handlers, generation, head, form, Completions).await
}

/// `POST /v1/chat/completions`.
pub(super) async fn chat_completions(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    let served = &handlers.served;
    let chat::Plan {
        generation,
        form,
        trims,
    } = plan(body, served, chat::Plan::of).await?;
    let object = if form.stream {
        "chat.completion.chunk"
    } else {
        "chat.completion"
    };
    let head = Head::new("chatcmpl", object);
    let shape = Replies {
        trimmers: trims.then(Vec::new),
        begun: Vec::new(),
    };
    respond(&handlers, generation, head, form, shape).await
}

async fn respond(
    handlers: &Handlers,
    generation: crate::protocol::Generation,
    head: Head,
    form: Form,
    mut shape: impl Shape,
) -> Result<Response, ApiError> {
    let (engine, served) = (&handlers.app.engine, &handlers.served);
    let mut prompts = Vec::new();
    if form.return_token_ids {
        prompts.extend(generation.prompts.iter().map(|prompt| prompt.ids.clone()));
    }
    let counts = generation.counts;
    let ids_of = |choice: usize| prompts.get(choice / counts.returned).map(Vec::as_slice);
    if form.stream {
        let running = run::begin(engine, served, generation)?;
        let format = Chunks {
            served: Arc::clone(served),
            head,
            form,
            shape,
            prompts,
            per_prompt: counts.returned,
        };
        return Ok(stream(running, format));
    }
    let (texts, tokens) = run::whole(engine, served, generation).await?;
    let texts = texts.into_iter().flat_map(|texts| returned(texts, counts));
    let choices = texts.enumerate().map(|(index, piece)| {
        let choice = Choice {
            index,
            piece: &piece,
            logprobs: form.logprobs,
            prompt_ids: ids_of(index),
        };
        shape.whole(served, choice)
    });
    let choices: Vec<Json> = choices.collect();
    Ok(document(&head.body(served, &choices, &tokens)))
}

/// How a choice is written.
trait Shape: Send + Unpin + 'static {
    /// A choice of a response.
    fn whole(&mut self, served: &Served, choice: Choice<'_>) -> Json;
    /// The choices of events that a piece of a choice makes.
    fn part(&mut self, served: &Served, choice: Choice<'_>) -> Vec<Json>;
}

struct Completions;

impl Shape for Completions {
    fn whole(&mut self, served: &Served, choice: Choice<'_>) -> Json {
        completions::choice(&served.model, choice)
    }

    fn part(&mut self, served: &Served, choice: Choice<'_>) -> Vec<Json> {
        vec![self.whole(served, choice)]
    }
}

struct Replies {
    /// What leaves out white space around each reply, where it is to be.
    trimmers: Option<Vec<Trimmer>>,
    /// Which choices have begun.
    begun: Vec<bool>,
}

impl Shape for Replies {
    fn whole(&mut self, served: &Served, choice: Choice<'_>) -> Json {
        let mut json = chat::choice(&served.model, choice);
        if self.trimmers.is_some() {
            json["message"]["content"] = choice.piece.text.trim().into();
        }
        json
    }

    fn part(&mut self, served: &Served, choice: Choice<'_>) -> Vec<Json> {
        let index = choice.index;
        let mut events = Vec::new();
        if self.begun.len() <= index {
            self.begun.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.begun[index], true) {
            events.push(chat::beginning(index));
        }
        let mut piece = choice.piece.clone();
        if let Some(trimmers) = &mut self.trimmers {
            if trimmers.len() <= index {
                trimmers.resize_with(index + 1, Trimmer::default);
            }
            piece.text = trimmers[index].push(&piece.text);
        }
        // The end has an event of its own, with an empty delta.
        let finish = piece.finish.take();
        let with = |piece| Choice { piece, ..choice };
        if !piece.text.is_empty() || !piece.tokens.is_empty() {
            events.push(chat::delta(&served.model, with(&piece)));
        }
        if finish.is_some() {
            let end = Piece {
                finish,
                ..Piece::default()
            };
            events.push(chat::delta(&served.model, with(&end)));
        }
        events
    }
}

/// The events of a stream.
struct Chunks<S> {
    served: Arc<Served>,
    head: Head,
    form: Form,
    shape: S,
    prompts: Vec<Vec<gpt2::TokenId>>,
    per_prompt: usize,
}

impl<S: Shape> Format for Chunks<S> {
    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Json> {
        let choice = Choice {
            index,
            piece: &piece,
            logprobs: self.form.logprobs,
            prompt_ids: self.prompts.get(index / self.per_prompt).map(Vec::as_slice),
        };
        let choices = self.shape.part(&self.served, choice).into_iter();
        let event = |choice| {
            self.head
                .event(&self.served, choice, self.form.include_usage)
        };
        choices.map(event).collect()
    }

    fn end(&mut self, tokens: &Tokens) -> Vec<Json> {
        let usage = self.form.include_usage;
        let event = usage.then(|| self.head.usage_event(&self.served, tokens));
        event.into_iter().collect()
    }
}

/// `POST /v1/embeddings`.
pub(super) async fn embeddings(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    let served = &handlers.served;
    let plan = plan(body, served, embeddings::Plan::of).await?;
    let mut response = plan.begin();
    for prompt in plan.inputs {
        let (pooling, normalize) = (plan.pooling, plan.normalize);
        let count = prompt.ids.len();
        let job = move |session: &mut gpt2::Session| session.embed(&prompt.ids, pooling, normalize);
        let vector = handlers.app.engine.with_session(job).await?;
        response.add(&vector, count);
    }
    Ok(text(response.finish(served)))
}

/// `GET /v1/models`.
pub(super) async fn models(State(served): State<Arc<Served>>) -> Response {
    document(&served.list())
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(
    State(served): State<Arc<Served>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    served.check_name(&id)?;
    Ok(document(&served.description()))
}
