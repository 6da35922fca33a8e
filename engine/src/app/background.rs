//! Tasks that go on for as long as the engine does. One that ends before is a fault that
//! must not pass in silence: the engine ends with it, and is started anew.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinSet};

#[derive(Default)]
pub(super) struct Background {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Background {
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Resolves when one of them ends, and says which and why.
    pub async fn fallen(&mut self) -> String {
        let (id, why) = match self.tasks.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((id, ()))) => (id, "it ended".to_owned()),
            Some(Err(error)) => (error.id(), error.to_string()),
        };
        let name = self.names.get(&id).copied().unwrap_or("a task");
        format!("{name} fell: {why}")
    }

    /// Ends them all, and waits until they have let go of what they hold.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_task_that_falls_is_named_and_the_others_end_when_told() {
        let mut background = Background::default();
        let held = Arc::new(());
        let theirs = Arc::clone(&held);
        background.spawn("the patient one", async move {
            std::future::pending::<()>().await;
            drop(theirs);
        });
        background.spawn("the watch", async { panic!("no such folder") });
        let said = background.fallen().await;
        assert!(said.starts_with("the watch fell: "), "{said}");
        assert!(said.contains("no such folder"), "{said}");
        background.spawn("the short one", async {});
        assert_eq!(background.fallen().await, "the short one fell: it ended");
        background.end().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
