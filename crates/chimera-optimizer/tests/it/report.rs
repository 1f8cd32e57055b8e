//! The report is one page that nothing can break out of.

use std::{sync::Arc, time::Duration};

use chimera_optimizer::{
    Dataset, Example, ModelAnswer, ModelRequest, Optimization, Task, evaluators::Exact, model_fn,
};

use crate::support::{counted, job, settings};

#[tokio::test(start_paused = true)]
async fn it_shows_scores_curve_changes_and_lineage() {
    let model = counted(&Arc::default(), |_| Duration::ZERO);
    let found = job("invoices", "gradient", settings(1, 300), model).build().unwrap().run().await.unwrap();
    let page = found.html();
    for part in ["<svg", "held-out", "#0 seed", "<ins>+ ", ", best", "n=60"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    let (open, close) = (page.matches("<ul").count(), page.matches("</ul>").count());
    assert_eq!(open, close);
}

#[tokio::test(start_paused = true)]
async fn what_a_model_writes_stays_text() {
    let evil = "<script>alert(1)</script>\"'&";
    let model = model_fn(move |request: ModelRequest| async move {
        let text = if request.system.contains("improve prompts") {
            format!("{evil}\n```\nGood {evil}\n```")
        } else if request.system.contains("Good") {
            "yes".into()
        } else {
            "no".into()
        };
        Ok(ModelAnswer { text, ..ModelAnswer::default() })
    });
    let set = |n: usize| vec![Example::new(evil, n.to_string(), "yes")];
    let data = Dataset { train: set(0), validation: set(1), held_out: set(2) };
    let task = Task::prompt("<b>name</b>", "seed", data).unwrap();
    let job = Optimization::new(task, model, Exact).settings(settings(1, 50)).build().unwrap();
    let found = job.run().await.unwrap();
    assert_eq!(found.scores.held_out.unwrap().mean, 1.0);
    let page = found.html();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
    assert!(!page.contains("<script") && !page.contains("<b>name"));
}
