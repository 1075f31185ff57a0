//! How memory is divided.

use gpt2::SessionOptions;
use gpt2_server::engine::{Plan, PlanOptions};

use crate::common::model;

#[test]
fn sessions_fit_into_the_memory_that_was_stated() {
    let positions = model().hyperparameters().n_positions;
    let plan = |mebibytes: u64| {
        let options = PlanOptions {
            memory: Some(mebibytes << 20),
            ..PlanOptions::default()
        };
        Plan::new(&model(), &options)
    };
    for mebibytes in [60, 80, 120, 1000] {
        let plan = plan(mebibytes).unwrap();
        let memory = plan.memory.weights + plan.memory.kv + plan.memory.compute;
        assert!(memory < (mebibytes as usize) << 20, "{plan:?}");
        let context = plan.session.context.unwrap();
        assert!(
            plan.context <= context && plan.context <= positions,
            "{plan:?}"
        );
        assert!(
            plan.texts * 256.min(positions) <= context || plan.texts == 1,
            "{plan:?}"
        );
        assert!(plan.texts <= plan.session.sequences, "{plan:?}");
        assert!(plan.second.context.unwrap() <= positions, "{plan:?}");
    }
    let roomy = plan(1000).unwrap();
    assert_eq!((roomy.texts, roomy.context), (4, positions));
    assert_eq!(roomy.session.context, Some(4 * positions));
    assert_eq!(roomy.second.context, Some(positions));
    assert!(plan(1).is_err());
}

#[test]
fn a_context_that_was_given_is_that_of_one_text() {
    let options = |texts: usize, context: usize| PlanOptions {
        texts: Some(texts),
        session: SessionOptions {
            context: Some(context),
            ..SessionOptions::default()
        },
        memory: None,
    };
    let plan = Plan::new(&model(), &options(3, 100)).unwrap();
    assert_eq!((plan.texts, plan.context), (3, 100));
    assert_eq!(plan.session.context, Some(300));
    assert_eq!(plan.second.context, Some(100));
    // Never more than the model has.
    let plan = Plan::new(&model(), &options(1, 1 << 20)).unwrap();
    assert_eq!(plan.context, model().hyperparameters().n_positions);
    assert!(Plan::new(&model(), &options(0, 100)).is_err());
    assert!(Plan::new(&model(), &options(65, 100)).is_err());
}
