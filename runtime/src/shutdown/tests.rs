//! Every story runs in paused time, so its seconds cost nothing.

use tokio::time::sleep;

use super::*;

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn waits_for_the_polite() {
    let shutdown = Shutdown::default();
    let polite = shutdown.clone();
    shutdown.spawn(async move {
        polite.draining().await;
        sleep(Duration::from_secs(3)).await;
    });
    let before = crate::clock::now();
    assert_eq!(shutdown.finish(GRACE).await, Finish::Drained);
    assert_eq!(crate::clock::now() - before, Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn cuts_the_stuck_and_counts_them() {
    let shutdown = Shutdown::default();
    shutdown.spawn(std::future::pending());
    shutdown.spawn(async {});
    assert_eq!(shutdown.finish(GRACE).await, Finish::Cut { tasks: 1 });
}

#[tokio::test(start_paused = true)]
async fn services_outlive_the_work_and_do_not_delay_it() {
    let shutdown = Shutdown::default();
    let ticks = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&ticks);
    shutdown.spawn_service(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            *counted.lock() += 1;
        }
    });
    let polite = shutdown.clone();
    shutdown.spawn(async move {
        polite.draining().await;
        sleep(Duration::from_millis(3_500)).await;
    });
    assert_eq!(shutdown.finish(GRACE).await, Finish::Drained);
    assert_eq!(*ticks.lock(), 3, "the service served until the work was done, and no longer");
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_drains_the_program() {
    let shutdown = Shutdown::default();
    shutdown.spawn_essential("listener", async { Err("port lost") });
    let failure = shutdown.failed().await;
    assert!(shutdown.is_draining());
    assert_eq!(failure.to_string(), "listener ended");
    assert_eq!(failure.source().unwrap().to_string(), "port lost");
}

#[tokio::test(start_paused = true)]
async fn a_panic_drains_the_program() {
    let shutdown = Shutdown::default();
    shutdown.spawn(async { panic!("on purpose") });
    assert!(matches!(shutdown.failed().await, Failure::Panicked));
    assert!(shutdown.is_draining());
    assert_eq!(shutdown.finish(GRACE).await, Finish::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_well_is_no_failure() {
    let shutdown = Shutdown::default();
    shutdown.spawn_essential("short", async { Ok::<(), String>(()) });
    assert_eq!(shutdown.finish(GRACE).await, Finish::Drained);
    assert!(shutdown.take_failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_wins() {
    let shutdown = Shutdown::default();
    shutdown.spawn(std::future::pending());
    shutdown.begin_drain_within(Duration::from_secs(2));
    shutdown.begin_drain_within(Duration::from_secs(60));
    let before = crate::clock::now();
    assert_eq!(shutdown.finish(GRACE).await, Finish::Cut { tasks: 1 });
    assert_eq!(crate::clock::now() - before, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn an_order_counts_in_place_of_the_programs_own_grace_and_can_be_shortened() {
    let shutdown = Shutdown::default();
    shutdown.spawn(std::future::pending());
    shutdown.begin_drain_within(10 * GRACE);
    let before = crate::clock::now();
    let hurried = shutdown.clone();
    let (finish, ()) = tokio::join!(shutdown.finish(GRACE), async move {
        sleep(2 * GRACE).await;
        hurried.begin_drain_within(3 * GRACE);
    });
    assert_eq!(finish, Finish::Cut { tasks: 1 });
    assert_eq!(crate::clock::now() - before, 3 * GRACE);
}

#[tokio::test(start_paused = true)]
async fn an_impatient_operator_cuts_the_grace() {
    let shutdown = Shutdown::default();
    shutdown.spawn(std::future::pending());
    let impatient = shutdown.clone();
    let finishing = shutdown.finish(GRACE);
    let (finish, ()) = tokio::join!(finishing, async move {
        sleep(Duration::from_secs(1)).await;
        impatient.stop_now();
    });
    assert_eq!(finish, Finish::Cut { tasks: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ignores_stop_is_left_behind() {
    let shutdown = Shutdown::default();
    shutdown.inner.services.spawn(std::future::pending::<()>());
    assert_eq!(shutdown.finish(GRACE).await, Finish::Drained);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_task_is_no_failure() {
    let shutdown = Shutdown::default();
    shutdown.spawn(std::future::pending()).abort();
    assert_eq!(shutdown.finish(GRACE).await, Finish::Drained);
    assert!(shutdown.take_failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_is_said_after_the_work_and_over_what_services_carry() {
    let shutdown = Shutdown::default();
    let story = Arc::new(Mutex::new(Vec::new()));
    let teller = |what: &'static str| {
        let story = Arc::clone(&story);
        move || story.lock().push(what)
    };
    let (worked, said, served) = (teller("worked"), teller("said"), teller("served"));
    let polite = shutdown.clone();
    shutdown.spawn(async move {
        polite.draining().await;
        sleep(Duration::from_secs(2)).await;
        worked();
    });
    shutdown.spawn_last(async move { said() });
    shutdown.spawn_last(std::future::pending());
    shutdown.spawn_service(async move {
        sleep(Duration::from_millis(2_500)).await;
        served();
    });
    let before = crate::clock::now();
    assert_eq!(shutdown.finish(GRACE).await, Finish::Drained);
    assert_eq!(*story.lock(), ["worked", "said", "served"]);
    assert_eq!(crate::clock::now() - before, Duration::from_secs(3), "a goodbye has a second");
}
