use super::*;

fn golden<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(value: &T, bytes: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), bytes);
    assert_eq!(&serde_json::from_str::<T>(bytes).unwrap(), value);
}

fn request(command: Command) -> Request {
    Request { seq: 7, command }
}

fn message(event: Event) -> Message {
    Message { re: Some(7), event }
}

#[test]
fn requests_of_version_1() {
    golden(
        &request(Command::Assign(Assign {
            container_id: "ab".into(),
            log: LogConfig::JsonFile {
                file: "ab-json.log".into(),
                max_size: Some(1000),
                max_files: 3,
                attrs: BTreeMap::new(),
            },
        })),
        concat!(
            r#"{"seq":7,"type":"Assign","container_id":"ab","log":{"driver":"json-file","file":"ab-json.log","#,
            r#""max_size":1000,"max_files":3}}"#
        ),
    );
    golden(
        &request(Command::Start(Start {
            sources: 2,
            namespaces: vec![NamespaceKind::Network],
            pid: PidNamespace::New,
            user: false,
            cgroups: 9,
            memory: Some(3),
            join_cgroups: false,
            streams: Streams { tty: false, open_stdin: true, stdin_once: true, size: None },
            attach: vec![AttachMode { stdin: true, stdout: true, stderr: false }],
            agent: false,
            held: true,
            usual_filter: true,
            external: None,
        })),
        concat!(
            r#"{"seq":7,"type":"Start","sources":2,"namespaces":["network"],"pid":"new","cgroups":9,"memory":3,"join_cgroups":false,"#,
            r#""streams":{"tty":false,"open_stdin":true,"stdin_once":true},"#,
            r#""attach":[{"stdin":true,"stdout":true,"stderr":false}],"held":true,"usual_filter":true}"#
        ),
    );
    golden(
        &request(Command::Start(Start {
            sources: 0,
            namespaces: vec![NamespaceKind::User],
            pid: PidNamespace::New,
            user: true,
            cgroups: 1,
            memory: None,
            join_cgroups: true,
            streams: Streams { tty: false, open_stdin: false, stdin_once: false, size: None },
            attach: vec![],
            agent: true,
            held: false,
            usual_filter: false,
            external: None,
        })),
        concat!(
            r#"{"seq":7,"type":"Start","sources":0,"namespaces":["user"],"pid":"new","user":true,"cgroups":1,"join_cgroups":true,"#,
            r#""streams":{"tty":false,"open_stdin":false,"stdin_once":false},"attach":[],"agent":true}"#
        ),
    );
    golden(
        &request(Command::Attach(Attach {
            exec_id: None,
            mode: AttachMode { stdin: false, stdout: true, stderr: true },
        })),
        r#"{"seq":7,"type":"Attach","stdin":false,"stdout":true,"stderr":true}"#,
    );
    golden(
        &request(Command::Exec(Exec {
            exec_id: "e".into(),
            tty: true,
            size: Some(TerminalSize { width: 80, height: 24 }),
            attach: None,
            agent: false,
        })),
        r#"{"seq":7,"type":"Exec","exec_id":"e","tty":true,"size":{"width":80,"height":24}}"#,
    );
    golden(
        &request(Command::Exec(Exec { exec_id: "e".into(), tty: false, size: None, attach: None, agent: true })),
        r#"{"seq":7,"type":"Exec","exec_id":"e","tty":false,"agent":true}"#,
    );
    golden(
        &request(Command::Resize(Resize { exec_id: None, size: TerminalSize { width: 80, height: 24 } })),
        r#"{"seq":7,"type":"Resize","width":80,"height":24}"#,
    );
    golden(&request(Command::Signal(Signal { exec_id: None, signal: 15 })), r#"{"seq":7,"type":"Signal","signal":15}"#);
    golden(
        &request(Command::CloseStdin(Target { exec_id: Some("e".into()) })),
        r#"{"seq":7,"type":"CloseStdin","exec_id":"e"}"#,
    );
    golden(&request(Command::Prepare(Prepare { cgroups: 0 })), r#"{"seq":7,"type":"Prepare"}"#);
    golden(&request(Command::Prepare(Prepare { cgroups: 9 })), r#"{"seq":7,"type":"Prepare","cgroups":9}"#);
    golden(&request(Command::Freeze(Freeze { on: true })), r#"{"seq":7,"type":"Freeze","on":true}"#);
    golden(&request(Command::Limit), r#"{"seq":7,"type":"Limit"}"#);
    golden(
        &External { program: "crun".into(), arguments: vec!["--debug".into()], directory: "/r".into() },
        r#"{"program":"crun","arguments":["--debug"],"directory":"/r"}"#,
    );
    golden(&request(Command::State), r#"{"seq":7,"type":"State"}"#);
    golden(&request(Command::Release), r#"{"seq":7,"type":"Release"}"#);
}

#[test]
fn messages_of_version_1() {
    let status = ExitStatus { code: 137, oom: true, time_ns: 5 };
    golden(
        &Message { re: None, event: Event::Ready(Ready { version: 1, pid: 10, init_pid: Some(11) }) },
        r#"{"type":"Ready","version":1,"pid":10,"init_pid":11}"#,
    );
    golden(&message(Event::Done), r#"{"re":7,"type":"Done"}"#);
    golden(
        &message(Event::Failed(Failure::new(corten_runtime::FailureKind::NotFound, "no"))),
        r#"{"re":7,"type":"Failed","kind":"not_found","message":"no"}"#,
    );
    golden(
        &message(Event::Started(Started { pid: 11, warnings: vec![] })),
        r#"{"re":7,"type":"Started","pid":11,"warnings":[]}"#,
    );
    golden(
        &message(Event::ExecStarted(ExecStarted { exec_id: "e".into(), pid: 12 })),
        r#"{"re":7,"type":"ExecStarted","exec_id":"e","pid":12}"#,
    );
    golden(
        &message(Event::State(Box::new(State {
            version: 1,
            shim_pid: 10,
            container_id: Some("ab".into()),
            phase: Phase::Running,
            pid: Some(11),
            exit: None,
            execs: vec![],
            external: false,
        }))),
        r#"{"re":7,"type":"State","version":1,"shim_pid":10,"container_id":"ab","phase":"running","pid":11,"execs":[]}"#,
    );
    golden(
        &Message { re: None, event: Event::Exited(status) },
        r#"{"type":"Exited","code":137,"oom":true,"time_ns":5}"#,
    );
    golden(
        &Message { re: None, event: Event::ExecExited(ExecExited { exec_id: "e".into(), status }) },
        r#"{"type":"ExecExited","exec_id":"e","code":137,"oom":true,"time_ns":5}"#,
    );
}

#[test]
fn unknown_fields_are_ignored() {
    let request: Request = serde_json::from_str(r#"{"seq":1,"type":"State","later":[1,2]}"#).unwrap();
    assert_eq!(request.command, Command::State);
    let state: State = serde_json::from_str(r#"{"version":2,"shim_pid":1,"phase":"warm","later":{}}"#).unwrap();
    assert_eq!(state.phase, Phase::Warm);
}
