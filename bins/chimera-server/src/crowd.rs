//! The connections of the admin listener: so many at most, the one that has been idle longest giving way to the next.
//! Whoever leaves theirs open, a browser or a careless script, must not keep an operator out until they time out.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::task::{AbortHandle, JoinSet};

use crate::connection::Activity;

/// How often it is looked whether one has become idle, where none was.
const LOOKED_EVERY: Duration = Duration::from_millis(200);

/// Connections that are being served. They end with this value.
pub(crate) struct Crowd {
    most: usize,
    tasks: JoinSet<()>,
    open: Vec<(AbortHandle, Arc<Activity>)>,
}

impl Crowd {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, tasks: JoinSet::new(), open: Vec::new() }
    }

    /// Serves one more, once there is room for it: at once, unless all the others are being answered.
    pub(crate) async fn serve(
        &mut self,
        activity: Arc<Activity>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= self.most {
            if let Some((idlest, _)) = self.idlest() {
                idlest.abort();
            }
            let _ = tokio::time::timeout(LOOKED_EVERY, self.tasks.join_next()).await;
        }
        self.open.retain(|(task, _)| !task.is_finished());
        self.open.push((self.tasks.spawn(connection), activity));
    }

    /// The one on which nothing has been asked for the longest time.
    fn idlest(&self) -> Option<&(AbortHandle, Arc<Activity>)> {
        let idle = self.open.iter().filter(|(task, activity)| !task.is_finished() && activity.is_idle());
        idle.min_by_key(|(_, activity)| activity.used())
    }

    /// Waits until all have ended.
    pub(crate) async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A connection that ends only by being closed, which is then told.
    fn connection() -> (Arc<Activity>, impl Future<Output = ()> + Send, oneshot::Receiver<()>) {
        let (open, closed) = oneshot::channel::<()>();
        let serving = async move {
            let _open = open;
            std::future::pending().await
        };
        (Activity::new(), serving, closed)
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_is_idle_longest_gives_way_and_none_that_is_being_answered() {
        let mut crowd = Crowd::new(3);
        let mut closed = Vec::new();
        let mut answering = Vec::new();
        for n in 0..3 {
            let (activity, serving, end) = connection();
            if n == 0 {
                answering.push(activity.request());
            }
            crowd.serve(activity, serving).await;
            closed.push(end);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let (activity, serving, _end) = connection();
        answering.push(activity.request());
        crowd.serve(activity, serving).await;
        let open: Vec<_> = closed
            .iter_mut()
            .map(|end| end.try_recv().is_err_and(|it| it == oneshot::error::TryRecvError::Empty))
            .collect();
        assert_eq!(open, [true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_being_answered_the_next_waits_for_one() {
        let mut crowd = Crowd::new(1);
        let (activity, serving, closed) = connection();
        let answering = activity.request();
        crowd.serve(activity, serving).await;
        let next = tokio::spawn(async move {
            let (activity, serving, _end) = connection();
            crowd.serve(activity, serving).await;
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!next.is_finished());
        drop(answering);
        next.await.unwrap();
        closed.await.unwrap_err();
    }
}
