use corten_base::ErrorKind;

use super::*;

const WHO: Who<'static> = Who { id: "abc", name: "web" };
const SECOND: i64 = 1_000_000_000;

fn at(phase: Phase) -> State {
    State { phase, started_ns: Some(0), pid: 7, ..State::default() }
}

fn policy(restart: RestartPolicy, auto_remove: bool) -> Policy {
    Policy { restart, auto_remove }
}

fn run(state: &State, policy: Policy, event: Event) -> (State, Vec<Effect>) {
    step(state, policy, WHO, event, SECOND).unwrap()
}

fn refused(phase: Phase, event: Event) -> String {
    step(&at(phase), Policy::default(), WHO, event, 0).unwrap_err().to_string()
}

fn exit(exit_code: i32) -> Event {
    Event::Exited { exit_code, oom: false, at_ns: 2 * SECOND }
}

#[test]
fn a_plain_life() {
    let (state, effects) = run(&State::default(), Policy::default(), Event::Start);
    assert_eq!((state.phase, effects), (Phase::Starting, vec![Effect::Disarm, Effect::Launch]));
    let (state, effects) = run(&state, Policy::default(), Event::Launched { pid: 42 });
    assert_eq!((state.phase, state.pid, state.started_ns), (Phase::Running, 42, Some(SECOND)));
    assert_eq!(effects, [Effect::Tell(Told::Start), Effect::Record]);
    let (state, effects) = run(&state, Policy::default(), exit(3));
    assert_eq!((state.phase, state.pid, state.exit_code, state.exits), (Phase::Exited, 0, 3, 1));
    assert_eq!(effects, [Effect::Disarm, Effect::Tell(Told::Die { exit_code: 3, seconds: 1 }), Effect::Teardown]);
    let (state, effects) = run(&state, Policy::default(), Event::Remove { force: false });
    assert_eq!((state.phase, effects), (Phase::Removing, vec![Effect::Disarm, Effect::Remove]));
}

#[test]
fn refusals_are_dockers() {
    let stop = || Event::Stop { signal: 15, grace: None };
    assert_eq!(refused(Phase::Running, Event::Start), "Container is already started");
    assert_eq!(refused(Phase::Paused, Event::Start), "cannot start a paused container, try unpause instead");
    assert_eq!(refused(Phase::Removing, Event::Start), "container is marked for removal and cannot be started");
    assert_eq!(refused(Phase::Exited, stop()), "Container is already stopped");
    assert_eq!(refused(Phase::Created, stop()), "Container is already stopped");
    assert_eq!(refused(Phase::Exited, Event::Kill { signal: 9 }), "container abc is not running");
    assert_eq!(refused(Phase::Exited, Event::Pause), "container abc is not running");
    assert_eq!(refused(Phase::Paused, Event::Pause), "Container abc is already paused");
    assert_eq!(refused(Phase::Running, Event::Unpause), "Container abc is not paused");
    assert_eq!(
        refused(Phase::Running, Event::Remove { force: false }),
        "cannot remove container \"web\": container is running: stop the container before removing or force remove"
    );
    assert_eq!(
        refused(Phase::Paused, Event::Remove { force: false }),
        "cannot remove container \"web\": container is paused and must be unpaused first"
    );
    assert_eq!(
        refused(Phase::Removing, Event::Remove { force: true }),
        "removal of container web is already in progress"
    );
    assert_eq!(Refusal::AlreadyStarted.kind(), ErrorKind::NotModified);
    assert_eq!(Refusal::NotRunning(String::new()).kind(), ErrorKind::Conflict);
}

#[test]
fn a_stop_becomes_a_kill() {
    let (state, effects) =
        run(&at(Phase::Running), Policy::default(), Event::Stop { signal: 15, grace: Some(Duration::from_secs(5)) });
    let told = Effect::Tell(Told::Kill { signal: 15 });
    assert_eq!(effects, [Effect::Signal(15), told, Effect::ArmGrace(Duration::from_secs(5)), Effect::Record]);
    let (state, effects) = run(&state, Policy::default(), Event::GraceElapsed);
    assert_eq!(effects, [Effect::Signal(9), Effect::Tell(Told::Kill { signal: 9 })]);
    let (state, effects) = run(&state, Policy::default(), exit(137));
    assert!(effects.contains(&Effect::Tell(Told::Stop)));
    assert!(state.stopped_by_user && !state.stopping);
    // The deadline may have passed in the same moment.
    assert_eq!(run(&state, Policy::default(), Event::GraceElapsed).1, []);
}

#[test]
fn a_frozen_container_is_thawed_to_die() {
    let (state, effects) = run(&at(Phase::Paused), Policy::default(), Event::Remove { force: true });
    assert_eq!(state.phase, Phase::Running);
    assert_eq!(effects, [Effect::Signal(9), Effect::Freeze(false), Effect::Tell(Told::Kill { signal: 9 })]);
    let (_, effects) = run(&at(Phase::Paused), Policy::default(), Event::Stop { signal: 15, grace: None });
    assert_eq!(effects[..2], [Effect::Signal(15), Effect::Freeze(false)]);
}

#[test]
fn auto_remove_follows_the_end() {
    let policy = policy(RestartPolicy::No, true);
    assert_eq!(run(&at(Phase::Running), policy, exit(0)).1.last(), Some(&Effect::AutoRemove));
    let failed = Event::LaunchFailed { exit_code: 127, message: "no".into() };
    assert_eq!(run(&at(Phase::Starting), policy, failed).1, [Effect::AutoRemove]);
}

#[test]
fn a_failed_first_start_stays_created() {
    let failed = || Event::LaunchFailed { exit_code: 127, message: "no".into() };
    let (state, effects) = run(&at(Phase::Starting), Policy::default(), failed());
    assert_eq!((state.phase, state.exit_code, state.error.as_str()), (Phase::Created, 127, "no"));
    assert_eq!(effects, [Effect::Record]);
    let before = State { exits: 1, ..at(Phase::Starting) };
    assert_eq!(run(&before, Policy::default(), failed()).0.phase, Phase::Exited);
}

#[test]
fn restart_policies() {
    let check = |restart, exit_code, by_user, restarts: u32, expect| {
        let state = State { stopped_by_user: by_user, restart_count: restarts, ..at(Phase::Running) };
        let (next, _) = run(&state, policy(restart, false), exit(exit_code));
        assert_eq!(next.phase == Phase::Restarting, expect, "{restart:?} {exit_code} {by_user} {restarts}");
    };
    check(RestartPolicy::No, 1, false, 0, false);
    check(RestartPolicy::Always, 0, false, 0, true);
    check(RestartPolicy::Always, 0, true, 0, false);
    check(RestartPolicy::UnlessStopped, 0, false, 0, true);
    check(RestartPolicy::OnFailure(0), 0, false, 0, false);
    check(RestartPolicy::OnFailure(0), 1, false, 99, true);
    check(RestartPolicy::OnFailure(2), 1, false, 1, true);
    check(RestartPolicy::OnFailure(2), 1, false, 2, false);
}

#[test]
fn restarts_wait_longer_each_time() {
    let always = policy(RestartPolicy::Always, false);
    let mut state = at(Phase::Running);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (next, effects) = run(&state, always, exit(1));
        waits.extend(effects.iter().filter_map(|effect| match effect {
            Effect::ArmRestart(wait) => Some(wait.as_millis()),
            _ => None,
        }));
        state = State { phase: Phase::Running, ..next };
    }
    assert_eq!(waits[..4], [100, 200, 400, 800]);
    assert_eq!(waits[11], 60_000);
    let long = Event::Exited { exit_code: 1, oom: false, at_ns: 100 * SECOND };
    assert!(run(&state, always, long).1.contains(&Effect::ArmRestart(Duration::from_millis(100))));
}

#[test]
fn a_waiting_restart_can_be_ended_or_hurried() {
    let always = policy(RestartPolicy::Always, false);
    let waiting = State { restart_count: 3, ..at(Phase::Restarting) };
    let (state, effects) = run(&waiting, always, Event::Stop { signal: 15, grace: None });
    assert_eq!((state.phase, state.stopped_by_user), (Phase::Exited, true));
    assert_eq!(effects[0], Effect::Disarm);
    let (state, effects) = run(&waiting, always, Event::Start);
    assert_eq!((state.phase, state.restart_count, effects), (Phase::Starting, 0, vec![Effect::Disarm, Effect::Launch]));
    assert_eq!(run(&waiting, always, Event::RestartDue).1, [Effect::Launch]);
    assert_eq!(run(&at(Phase::Exited), always, Event::RestartDue).1, []);
}

#[test]
fn a_lost_supervisor_counts_as_killed() {
    let (state, _) = run(&at(Phase::Running), Policy::default(), Event::Lost);
    assert_eq!((state.phase, state.exit_code), (Phase::Exited, 137));
    // A second report of an end changes nothing.
    assert_eq!(run(&state, Policy::default(), exit(0)), (state.clone(), vec![]));
}

#[test]
fn oom_is_told_once_and_kept() {
    let end = Event::Exited { exit_code: 137, oom: true, at_ns: SECOND };
    let (state, effects) = run(&at(Phase::Running), Policy::default(), end.clone());
    assert!(state.oom_killed && effects.contains(&Effect::Tell(Told::Oom)));
    let (state, _) = run(&at(Phase::Running), Policy::default(), Event::Oom);
    assert!(!run(&state, Policy::default(), end).1.contains(&Effect::Tell(Told::Oom)));
}

#[test]
fn what_comes_back_with_the_daemon() {
    let check = |restart, state: State, expect| {
        assert_eq!(restarts_with_daemon(restart, &state), expect, "{restart:?} {state:?}")
    };
    let ended = |by_user, exit_code| State { exits: 1, stopped_by_user: by_user, exit_code, ..at(Phase::Exited) };
    check(RestartPolicy::Always, ended(true, 0), true);
    check(RestartPolicy::Always, at(Phase::Created), false);
    check(RestartPolicy::UnlessStopped, ended(true, 0), false);
    check(RestartPolicy::UnlessStopped, ended(false, 0), true);
    check(RestartPolicy::OnFailure(0), ended(false, 1), true);
    check(RestartPolicy::OnFailure(0), ended(false, 0), false);
    check(RestartPolicy::OnFailure(0), ended(true, 1), false);
    check(RestartPolicy::No, ended(false, 1), false);
}

/// Whatever happens in whatever state: no panic, and a state without a process has no pid.
#[test]
fn every_event_in_every_state() {
    let phases = [
        Phase::Created,
        Phase::Starting,
        Phase::Running,
        Phase::Paused,
        Phase::Restarting,
        Phase::Exited,
        Phase::Removing,
        Phase::Dead,
    ];
    let events = [
        Event::Start,
        Event::Launched { pid: 1 },
        Event::LaunchFailed { exit_code: 1, message: String::new() },
        Event::Kill { signal: 9 },
        Event::Stop { signal: 15, grace: None },
        Event::GraceElapsed,
        exit(0),
        Event::Lost,
        Event::Oom,
        Event::Pause,
        Event::Unpause,
        Event::RestartDue,
        Event::Remove { force: true },
        Event::Remove { force: false },
        Event::RemoveFailed { message: String::new() },
    ];
    for phase in phases {
        for event in &events {
            let state = State { pid: 0, ..at(phase) };
            if let Ok((next, effects)) = step(&state, Policy::default(), WHO, event.clone(), 0) {
                let launches = effects.iter().filter(|effect| **effect == Effect::Launch).count();
                assert!(launches <= 1 && (launches == 0 || next.phase == Phase::Starting), "{phase:?} {event:?}");
            }
        }
    }
}
