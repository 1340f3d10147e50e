//! Questions on the terminal, to be answered with the word that they name.

use std::io::{BufRead, IsTerminal, Stdin};

use super::render::complain_wrapped;

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The word that was asked for.
    Yes,
    /// Something else was typed, if only a part of that word.
    Other,
    /// Nobody is there to be asked.
    Nobody,
}

impl Answer {
    /// Returns how a person is told why nothing was done, as the end of a sentence.
    pub fn refusal(self) -> &'static str {
        match self {
            Self::Other => "the answer was not the whole word `yes`",
            Self::Yes | Self::Nobody => "nobody said yes",
        }
    }

    /// Returns what comes next: to answer again in full, before the way that needs no answer.
    pub fn next(self, without_asking: &str) -> String {
        match self {
            Self::Other => {
                format!(
                    "type the same command again and answer with the whole word `yes`; {without_asking}"
                )
            }
            Self::Yes | Self::Nobody => without_asking.to_owned(),
        }
    }
}

/// Prints a question where somebody can answer it; returns where the answer comes from, `None` where nobody is there.
///
/// What was typed before the question was read is no answer to it, so the terminal forgets that first.
pub fn question(text: &str) -> Option<Stdin> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return None;
    }
    if let Err(error) = rustix::termios::tcflush(&stdin, rustix::termios::QueueSelector::IFlush) {
        // A question that may be answered already is not asked.
        tracing::error!(%error, "what was typed before cannot be dropped, so nothing is asked");
        return None;
    }
    complain_wrapped(text);
    Some(stdin)
}

/// Reads the answer: anything but `word` is a no.
pub fn read(stdin: &Stdin, is_word: impl Fn(&str) -> bool) -> Answer {
    let mut typed = String::new();
    let read = stdin.lock().read_line(&mut typed);
    match read {
        Ok(1..) if is_word(typed.trim()) => Answer::Yes,
        Ok(1..) => Answer::Other,
        // The terminal is gone.
        Ok(0) | Err(_) => Answer::Nobody,
    }
}

/// Asks `text`, to be answered with `yes`.
pub fn agreed(text: &str) -> Answer {
    question(text).map_or(Answer::Nobody, |stdin| read(&stdin, |typed| typed == "yes"))
}
