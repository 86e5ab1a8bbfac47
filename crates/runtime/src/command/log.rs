//! Messages in logrus's two formats, to standard error or a file: higher tools parse them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use corten_base::time::rfc3339;

use super::error::{Error, Result};

/// Where messages go.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    file: Option<Arc<File>>,
    json: bool,
    debug: bool,
}

impl Log {
    /// Opens the file, for appending; without one it is standard error.
    pub(super) fn open(path: Option<&str>, format: &str, debug: bool) -> Result<Log> {
        let json = match format {
            "text" => false,
            "json" => true,
            other => return Err(Error::new(format!("invalid log-format: {other}"))),
        };
        let open = |path: &str| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.map(Arc::new).map_err(Error::doing(format!("cannot open the log {path}")))
        };
        Ok(Log { file: path.filter(|path| !path.is_empty()).map(open).transpose()?, json, debug })
    }

    /// The error that ends the command; where messages go to a file, standard error has it as well.
    pub(super) fn fatal(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            eprintln!("{message}");
        }
    }

    /// Something went otherwise than asked.
    pub(super) fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// Only with `--debug`.
    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = line(self.json, level, message, &rfc3339(SystemTime::now()));
        // There is nowhere to report a log that cannot be written to.
        let _ = match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn line(json: bool, level: &str, message: &str, time: &str) -> String {
    if json {
        format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": time}))
    } else {
        format!("time={time:?} level={level} msg={message:?}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn both_formats() {
        assert_eq!(
            line(true, "error", "a \"b\"", "T"),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\",\"time\":\"T\"}\n"
        );
        assert_eq!(line(false, "error", "a \"b\"", "T"), "time=\"T\" level=error msg=\"a \\\"b\\\"\"\n");
    }
}
