//! Cooperative tasks: a small executor for `async` functions.
//!
//! A task is a future that is not interrupted; it gives way where it awaits. The
//! executor keeps one bit per task for "may make progress" in one word, polls
//! the tasks whose bit is set, lowest first, each once, and parks when no bit is
//! set. Wakers set a bit. Memory is allocated when a task is spawned, and never
//! when it is polled or woken.
//!
//! What happens outside (a packet arrives) reaches tasks through [`Events`]:
//! a task that waits there is woken each time the executor comes back from parking.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::task::{Context, Poll, Waker};

use super::{Park, Scheduler, Ticks};

/// Most tasks of one executor.
pub const MAX_TASKS: usize = 64;

/// The executor has [`MAX_TASKS`] tasks already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// An executor and its tasks, which may borrow for `'a`.
pub struct Tasks<'a> {
    tasks: Vec<Task<'a>>,
    ready: Arc<AtomicU64>,
    events: Events,
    code: u64,
}

struct Task<'a> {
    /// Gone once it has ended.
    future: Option<Pin<Box<dyn Future<Output = u64> + 'a>>>,
    waker: Waker,
}

/// Sets one task's bit.
struct Flag {
    ready: Arc<AtomicU64>,
    bit: u64,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.fetch_or(self.bit, Relaxed);
    }
}

impl<'a> Tasks<'a> {
    /// An executor without tasks.
    pub fn new() -> Self {
        Self {
            tasks: Vec::new(),
            ready: Arc::new(AtomicU64::new(0)),
            events: Events::default(),
            code: 0,
        }
    }

    /// Where tasks wait for what happens outside.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Adds a task, which will run first when the executor does. It ends with an
    /// exit code: zero, or what is wrong.
    ///
    /// # Errors
    /// [`Full`].
    pub fn spawn(&mut self, task: impl Future<Output = u64> + 'a) -> Result<(), Full> {
        if self.tasks.len() == MAX_TASKS {
            return Err(Full);
        }
        let bit = 1 << self.tasks.len();
        let flag = Arc::new(Flag { ready: self.ready.clone(), bit });
        self.tasks.push(Task { future: Some(Box::pin(task)), waker: flag.into() });
        self.ready.fetch_or(bit, Relaxed);
        Ok(())
    }

    /// Polls each task that was ready at the start once. Whether any was.
    fn poll_ready(&mut self) -> bool {
        let mut ready = self.ready.swap(0, Relaxed);
        let any = ready != 0;
        while ready != 0 {
            let index = ready.trailing_zeros() as usize;
            ready &= ready - 1;
            let Some(task) = self.tasks.get_mut(index) else { break };
            let Some(future) = &mut task.future else { continue };
            if let Poll::Ready(code) = future.as_mut().poll(&mut Context::from_waker(&task.waker)) {
                task.future = None;
                if self.code == 0 {
                    self.code = code;
                }
            }
        }
        any
    }
}

impl Default for Tasks<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl Scheduler for Tasks<'_> {
    /// Runs until every task has ended, or one has ended with a code other than
    /// zero, and returns that code.
    ///
    /// **Limits** tasks that wait for nothing but each other sleep for ever.
    fn run(&mut self, park: &mut impl Park) -> u64 {
        loop {
            let seen = park.seen();
            while self.poll_ready() {
                if self.code != 0 || self.tasks.iter().all(|task| task.future.is_none()) {
                    return self.code;
                }
            }
            if self.tasks.is_empty() {
                return 0;
            }
            park.park(seen, self.events.deadline());
            self.events.wake_all();
        }
    }
}

/// Lets tasks wait until the environment has had an event or a time has come.
#[derive(Clone, Default)]
pub struct Events(Rc<RefCell<Waiting>>);

#[derive(Default)]
struct Waiting {
    wakers: Vec<Waker>,
    deadline: Option<Ticks>,
}

impl Events {
    /// Waits until the executor has slept once, at most until `deadline`.
    ///
    /// May return early. Look for work before; what arrives between looking and
    /// sleeping ends the sleep at once.
    pub async fn wait(&self, deadline: Option<Ticks>) {
        let mut waited = false;
        poll_fn(|context| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            let mut waiting = self.0.borrow_mut();
            // A task that was woken in another way may be on the list already.
            if !waiting.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.wakers.push(context.waker().clone());
            }
            let earlier = [waiting.deadline, deadline].into_iter().flatten().min();
            waiting.deadline = earlier;
            Poll::Pending
        })
        .await;
    }

    fn deadline(&self) -> Option<Ticks> {
        self.0.borrow().deadline
    }

    fn wake_all(&self) {
        let mut waiting = self.0.borrow_mut();
        waiting.deadline = None;
        // Draining keeps the capacity: nothing is allocated from the second
        // round on.
        waiting.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Gives way to the other tasks once.
pub async fn yield_now() {
    let mut given = false;
    poll_fn(|context| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use exo_abi::EventCount;

    use super::{Full, MAX_TASKS, Tasks, yield_now};
    use crate::sched::{Park, Scheduler, Ticks};

    /// A clock that jumps to each deadline, and has an event when there is none.
    #[derive(Default)]
    struct Jump {
        now: u64,
        events: u64,
        deadlines: Vec<Option<u64>>,
    }

    impl Park for Jump {
        fn seen(&mut self) -> EventCount {
            EventCount(self.events)
        }

        fn park(&mut self, seen: EventCount, deadline: Option<Ticks>) {
            assert_eq!(seen.0, self.events);
            assert!(self.deadlines.len() < 1000, "sleeps for ever");
            self.deadlines.push(deadline.map(|ticks| ticks.0));
            match deadline {
                Some(Ticks(ticks)) => self.now = ticks,
                None => self.events += 1,
            }
        }
    }

    #[test]
    fn tasks_take_turns() {
        let log = RefCell::new(Vec::new());
        let mut tasks = Tasks::new();
        for name in ["a", "b"] {
            let log = &log;
            let task = async move {
                for turn in 0..3 {
                    log.borrow_mut().push((name, turn));
                    yield_now().await;
                }
                0
            };
            tasks.spawn(task).unwrap();
        }
        assert_eq!(tasks.run(&mut Jump::default()), 0);
        drop(tasks);
        assert_eq!(log.into_inner(), [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]);
    }

    #[test]
    fn sleeps_until_the_earliest_deadline() {
        let woken = Cell::new(0);
        let mut tasks = Tasks::new();
        for deadline in [Some(Ticks(30)), Some(Ticks(20)), None] {
            let (events, woken) = (tasks.events(), &woken);
            let task = async move {
                events.wait(deadline).await;
                woken.set(woken.get() + 1);
                0
            };
            tasks.spawn(task).unwrap();
        }
        let mut park = Jump::default();
        assert_eq!(tasks.run(&mut park), 0);
        assert_eq!(park.deadlines, [Some(20)]);
        assert_eq!(woken.get(), 3);
    }

    #[test]
    fn first_failure_ends_the_run() {
        let mut tasks = Tasks::new();
        let events = tasks.events();
        tasks
            .spawn(async move {
                loop {
                    events.wait(None).await;
                }
            })
            .unwrap();
        let events = tasks.events();
        tasks
            .spawn(async move {
                events.wait(None).await;
                3
            })
            .unwrap();
        assert_eq!(tasks.run(&mut Jump::default()), 3);
    }

    #[test]
    fn wakers_may_outlive_the_executor() {
        let kept = RefCell::new(None);
        let mut tasks = Tasks::new();
        let task = std::future::poll_fn(|context| {
            *kept.borrow_mut() = Some(context.waker().clone());
            std::task::Poll::Ready(0)
        });
        tasks.spawn(task).unwrap();
        assert_eq!(tasks.run(&mut Jump::default()), 0);
        drop(tasks);
        kept.into_inner().unwrap().wake();
    }

    #[test]
    fn number_of_tasks_is_bounded() {
        let mut tasks = Tasks::new();
        for _ in 0..MAX_TASKS {
            tasks.spawn(async { 0 }).unwrap();
        }
        assert_eq!(tasks.spawn(async { 0 }), Err(Full));
        assert_eq!(tasks.run(&mut Jump::default()), 0);
        assert_eq!(Tasks::new().run(&mut Jump::default()), 0);
    }
}
