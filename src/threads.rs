//! Threads of one kind, each with a runtime of its own.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};

/// Starts a thread for each of `tasks`, called `name` and its number. Each has
/// its task prepare in its runtime, and runs what that returns once all are
/// prepared. If one cannot be, none runs: those that came first might have taken
/// what it lacks, a file descriptor for its runtime for one.
pub fn start_together<T, P>(
    name: &str,
    tasks: impl IntoIterator<Item = T>,
) -> io::Result<Vec<JoinHandle<()>>>
where
    T: FnOnce() -> io::Result<P> + Send + 'static,
    P: FnOnce(&Runtime),
{
    let (tell, told) = mpsc::channel();
    let mut threads = Vec::new();
    for (number, prepare) in tasks.into_iter().enumerate() {
        let tell = tell.clone();
        let name = format!("{name}-{number}");
        let thread = thread::Builder::new().name(name.clone());
        threads.push(thread.spawn(move || {
            let (runtime, run) = match prepared(prepare) {
                Ok(prepared) => prepared,
                Err(error) => {
                    let told = format!("the thread {name} cannot begin: {error}");
                    let _ = tell.send(Err(io::Error::new(error.kind(), told)));
                    return;
                }
            };
            let (begin, word) = mpsc::channel();
            // Nobody listens, or answers, once another one failed.
            if tell.send(Ok(begin)).is_ok() && word.recv().is_ok() {
                run(&runtime);
            }
        })?);
    }
    let begin: Vec<mpsc::Sender<()>> = told
        .into_iter()
        .take(threads.len())
        .collect::<io::Result<_>>()?;
    for thread in begin {
        // One that is gone has panicked, and says so when it is joined.
        let _ = thread.send(());
    }
    Ok(threads)
}

fn prepared<P>(prepare: impl FnOnce() -> io::Result<P>) -> io::Result<(Runtime, P)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let prepared = prepare()?;
    drop(entered);
    Ok((runtime, prepared))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_run_in_their_runtimes_once_all_are_prepared() {
        const THREADS: usize = 8;
        let prepared = Arc::new(AtomicUsize::new(0));
        let task = |number: usize| {
            let prepared = Arc::clone(&prepared);
            move || {
                prepared.fetch_add(1, Ordering::SeqCst);
                tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
                Ok(move |runtime: &Runtime| {
                    assert_eq!(prepared.load(Ordering::SeqCst), THREADS);
                    let name = format!("some-{number}");
                    assert_eq!(thread::current().name(), Some(&*name));
                    runtime.block_on(tokio::task::yield_now());
                })
            }
        };
        for thread in start_together("some", (0..THREADS).map(task)).unwrap() {
            thread.join().unwrap();
        }
    }

    #[test]
    fn if_one_cannot_be_prepared_none_runs_and_all_end() {
        let alive = Arc::new(());
        let task = |number: usize| {
            let alive = Arc::clone(&alive);
            move || {
                if number == 2 {
                    return Err(io::Error::other("no descriptor"));
                }
                Ok(move |_: &Runtime| panic!("{number} runs, of {}", Arc::strong_count(&alive)))
            }
        };
        let error = start_together("some", (0..4).map(task)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the thread some-2 cannot begin: no descriptor"
        );
        while Arc::strong_count(&alive) > 1 {
            thread::yield_now();
        }
    }
}
