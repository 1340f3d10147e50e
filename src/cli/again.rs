//! What is typed again after a command was refused: that command. The engine speaks of `rekindle run` only.

use crate::failure::Failure;

/// Returns the failure with `again` (`verify shop.yaml --repair`) in place of `rekindle run` with one of `typed`, where that would
/// be typed after the cause is mended.
pub fn same_again(mut failure: Failure, typed: [&str; 2], again: &str) -> Failure {
    let same = format!(", then `rekindle {again}`");
    for typed in typed {
        let run = format!(", then `rekindle run {typed}`");
        failure.next = failure.next.replacen(&run, &same, 1);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn only_what_would_be_repeated_is_put_in_other_words() {
        let said = |next: &str| {
            let failure = Failure::new(Exit::Refused, "refused", "nothing", next);
            same_again(
                failure,
                ["p.yaml --only a", "p.yaml"],
                "verify p.yaml --only a --repair",
            )
            .next
        };
        let again = "check it, then `rekindle verify p.yaml --only a --repair`";
        assert_eq!(said("check it, then `rekindle run p.yaml`"), again);
        assert_eq!(said("check it, then `rekindle run p.yaml --only a`"), again);
        let new = "begin anew with `rekindle run --new p.yaml`";
        assert_eq!(said(new), new);
    }
}
