//! Files as they change: the loop from an event to a batch.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc::Sender, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    Files, Outcome, Patience, RECENT,
    notices::{Notices, POLL},
    pending::Pending,
};
use crate::source::Batch;

/// Watches files until `shutdown`, or until nobody listens any more.
///
/// The first batch comes after everything was looked at, also when there is nothing in it. Then an edit is a batch; what
/// changes nothing sends nothing. While the listener is busy, events are coalesced, in bounded memory. Where the system
/// does not tell of changes (its limit of watches is reached), everything is looked at every second.
pub async fn watch(files: Files, batches: Sender<Batch>, shutdown: CancellationToken) {
    let pending = Arc::new(Pending::default());
    let notices = Notices::new(pending.clone());
    follow(files, notices, &pending, batches, shutdown).await;
}

async fn follow(
    mut files: Files,
    mut notices: Notices,
    pending: &Pending,
    batches: Sender<Batch>,
    shutdown: CancellationToken,
) {
    pending.note_everything(Duration::ZERO, Instant::now());
    let mut first = true;
    loop {
        let work = tokio::select! {
            () = shutdown.cancelled() => return,
            () = batches.closed() => return,
            work = pending.next() => work,
        };
        let seen = work.seen;
        // Reading and parsing would hold up other tasks.
        let looked = spawn_blocking(move || {
            let outcome = look(&mut files, &mut notices, work.paths);
            (files, notices, outcome)
        });
        let outcome;
        (files, notices, outcome) = match looked.await {
            Ok(looked) => looked,
            Err(error) => return tracing::error!(%error, "watching files has ended: this is a defect"),
        };
        for path in outcome.again {
            pending.note_again(path, RECENT, seen);
        }
        if notices.deaf() {
            pending.note_everything(POLL, Instant::now());
        }
        if !first && outcome.batch.changes.is_empty() && !outcome.news {
            continue;
        }
        first = false;
        let batch = Batch { seen, ..outcome.batch };
        tokio::select! {
            () = shutdown.cancelled() => return,
            sent = batches.send(batch) => if sent.is_err() { return },
        }
    }
}

fn look(files: &mut Files, notices: &mut Notices, paths: Option<Vec<PathBuf>>) -> Outcome {
    let paths = paths.unwrap_or_else(|| {
        notices.renew();
        files.roots.clone()
    });
    for root in files.roots.iter().filter(|root| paths.contains(root)) {
        notices.guard(root);
    }
    files.update(&paths, Patience::Young, notices)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    #[tokio::test]
    async fn where_the_system_does_not_tell_changes_are_found_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let namespace =
            |name: &str| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        fs::write(folder.path().join("a.yaml"), namespace("a")).unwrap();
        let (sender, mut batches) = mpsc::channel(1);
        let (shutdown, pending) = (CancellationToken::new(), Pending::default());
        pending.note_everything(Duration::ZERO, Instant::now());
        let files = Files::new([folder.path()]);
        let following = follow(files, Notices::none(), &pending, sender, shutdown.clone());
        let told = async {
            let mut next = async || timeout(Duration::from_secs(20), batches.recv()).await.unwrap().unwrap();
            let first = next().await.changes;
            fs::write(folder.path().join("b.yaml"), namespace("b")).unwrap();
            let second = next().await.changes;
            shutdown.cancel();
            [first, second]
                .map(|changes| changes.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>())
        };
        let ((), told) = tokio::join!(following, told);
        assert_eq!(told, [["Namespace/a"], ["Namespace/b"]]);
    }
}
