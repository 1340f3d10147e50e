//! One PHP process that is asked what it makes of values.

use std::{
    io::{BufReader, BufWriter, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

/// PHP, fed by a thread of its own, so that neither side waits for the other with full pipes.
pub struct Oracle {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// What is asked.
#[derive(Clone)]
pub enum Question {
    /// The forms of a JSON value.
    Json(Vec<u8>),
    /// The value packed.
    Gzip(Vec<u8>),
}

impl Oracle {
    /// Starts PHP and asks it everything.
    pub fn ask(questions: impl IntoIterator<Item = Question> + Send + 'static) -> Self {
        let mut child = Command::new("php")
            .args([
                "-n",
                "-d",
                "serialize_precision=-1",
                "-d",
                "memory_limit=512M",
                "-d",
                "display_errors=stderr",
            ])
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/services/php/oracle.php"
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("php starts; on Debian it is in the package php-cli");
        let mut stdin = BufWriter::new(child.stdin.take().expect("stdin is a pipe"));
        thread::spawn(move || {
            for question in questions {
                let (kind, value) = match question {
                    Question::Json(value) => (b'j', value),
                    Question::Gzip(value) => (b'z', value),
                };
                let len = u32::try_from(value.len()).expect("short");
                let told = stdin
                    .write_all(&[kind])
                    .and_then(|()| stdin.write_all(&len.to_le_bytes()))
                    .and_then(|()| stdin.write_all(&value));
                if told.is_err() {
                    // A test that failed stopped listening.
                    return;
                }
            }
        });
        let answers = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Self { child, answers }
    }

    /// Returns the next answer; `None` where PHP decodes no array.
    pub fn answer(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 4];
        self.answers.read_exact(&mut len).expect("php answers");
        if len == [0xff; 4] {
            return None;
        }
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        self.answers.read_exact(&mut bytes).expect("php answers");
        Some(bytes)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
