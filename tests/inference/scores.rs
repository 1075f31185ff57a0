//! Scores of texts: the same in any company, in sessions of any size, in one piece and in many.

use std::ops::ControlFlow;

use crate::common::{austen_f32, cores};
use gpt2::sampling::ScoreDetails;
use gpt2::session::{Session, SessionOptions};
use gpt2::tasks::{
    PerplexityOptions, ScoreOptions, ScoreRequest, TextScores, perplexity, score, scoring_needs,
};
use gpt2::{Error, TokenId};

fn session(options: SessionOptions) -> Session {
    Session::new(austen_f32(), options).unwrap()
}

fn scores(
    session: &mut Session,
    requests: &[ScoreRequest],
    options: &ScoreOptions,
) -> gpt2::Result<Vec<TextScores>> {
    let mut found = Vec::new();
    score(session, requests, options, &mut |index, scores| {
        assert_eq!(index, found.len(), "texts come in their order");
        found.push(scores);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Texts of many lengths, several contexts among them, one beyond what a window holds.
fn requests() -> Vec<ScoreRequest> {
    let text = |seed: u32, length: usize| -> Vec<TokenId> {
        let ids = (0..length as u32).map(|index| (index * 37 + seed * 101) % 4096);
        ids.collect()
    };
    let mut requests = Vec::new();
    for (context, length) in [
        (0, 0),
        (0, 1),
        (0, 30),
        (20, 5),
        (20, 1),
        (20, 70),
        (3, 8),
        (0, 2),
        (1, 4),
        (1, 4),
        (90, 40),
        (20, 7),
    ] {
        requests.push(ScoreRequest {
            context: text(context as u32, context),
            tokens: text(requests.len() as u32 + 7, length),
        });
    }
    requests
}

/// The largest difference of the log-probabilities; which there are must be the same.
fn difference(one: &[TextScores], other: &[TextScores]) -> f64 {
    assert_eq!(one.len(), other.len());
    let mut worst = 0.0_f64;
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one.tokens.len(), other.tokens.len());
        for (one, other) in one.tokens.iter().zip(&other.tokens) {
            assert_eq!(one.is_some(), other.is_some());
            if let (Some(one), Some(other)) = (one, other) {
                worst = worst.max((one.log_probability - other.log_probability).abs());
            }
        }
    }
    worst
}

#[test]
fn scores_are_the_same_in_any_company_and_any_session() {
    let _cores = cores();
    let requests = requests();
    let options = ScoreOptions::default();
    // Each alone, the only sequence of its session.
    let mut alone = session(SessionOptions::default());
    let expected: Vec<TextScores> = requests
        .iter()
        .flat_map(|request| scores(&mut alone, std::slice::from_ref(request), &options).unwrap())
        .collect();
    let scored: Vec<usize> = expected.iter().map(TextScores::scored).collect();
    assert_eq!(scored, [0, 0, 29, 5, 1, 70, 8, 1, 4, 4, 40, 7]);
    let (sequences, context) = scoring_needs(alone.model());
    let mut worst = 0.0_f64;
    for (sequences, context, batch_size) in [
        (sequences, context, 256),
        (sequences, context, 3),
        (3, 140, 16),
        (1, 131, 256),
        (2, 512, 1),
    ] {
        let mut session = session(SessionOptions {
            sequences,
            context: Some(context),
            batch_size,
            ..SessionOptions::default()
        });
        let found = scores(&mut session, &requests, &options).unwrap();
        worst = worst.max(difference(&found, &expected));
        // A session that has worked scores the same.
        let again = scores(&mut session, &requests, &options).unwrap();
        assert_eq!(again, found);
        assert_eq!(session.length(0), 0);
    }
    println!("largest difference: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
}

#[test]
fn a_break_and_a_stop_leave_what_was_scored() {
    let _cores = cores();
    let mut session = session(SessionOptions::default());
    let mut seen = 0;
    let options = ScoreOptions::default();
    score(&mut session, &requests(), &options, &mut |_, _| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    assert_eq!(seen, 3);
    let flag = session.stop_flag();
    let mut seen = 0;
    let result = score(&mut session, &requests(), &options, &mut |_, _| {
        seen += 1;
        flag.store(seen == 4, std::sync::atomic::Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
    assert_eq!(seen, 4);
}

#[test]
fn options_at_their_edges_are_refused_or_work() {
    let _cores = cores();
    let mut session = session(SessionOptions {
        context: Some(8),
        ..SessionOptions::default()
    });
    let request = ScoreRequest {
        context: Vec::new(),
        tokens: (0..20).collect(),
    };
    for stride in [1, 7, 8] {
        let options = ScoreOptions {
            stride: Some(stride),
            details: ScoreDetails {
                rank: true,
                entropy: true,
                top: usize::MAX,
            },
            ..ScoreOptions::default()
        };
        let found = scores(&mut session, std::slice::from_ref(&request), &options).unwrap();
        assert_eq!(found[0].scored(), 19);
        assert_eq!(found[0].windows, 1 + 11_usize.div_ceil(stride));
        let last = found[0].tokens[19].as_ref().unwrap();
        assert_eq!(last.top.len(), 4096);
        let place = last.rank.unwrap() - 1;
        assert_eq!(
            (last.top[place].id, last.top[place].log_probability),
            (19, last.log_probability)
        );
    }
    for stride in [0, 9, usize::MAX] {
        let options = ScoreOptions {
            stride: Some(stride),
            ..ScoreOptions::default()
        };
        let result = scores(&mut session, std::slice::from_ref(&request), &options);
        assert!(matches!(
            result,
            Err(Error::OutOfRange { name: "stride", .. })
        ));
    }
    let outside = ScoreRequest {
        context: vec![4096],
        tokens: vec![0],
    };
    assert!(scores(&mut session, &[outside], &ScoreOptions::default()).is_err());
    let texts = [(0..20).collect::<Vec<TokenId>>()];
    let mut go_on = |_: &_| ControlFlow::Continue(());
    for window in [0, 1, 2, 3, 8, 9, usize::MAX] {
        for stride in [None, Some(0), Some(1), Some(2), Some(8), Some(usize::MAX)] {
            let options = PerplexityOptions { window, stride };
            let found = perplexity(&mut session, None, &texts, options, &mut go_on);
            let fits = (2..=8).contains(&window)
                && stride.is_none_or(|stride| (1..=window).contains(&stride));
            assert_eq!(found.is_ok(), fits, "{options:?}");
            assert!(found.is_ok_and(|found| found.perplexity() > 1.0) || !fits);
        }
    }
}
