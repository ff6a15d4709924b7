//! A line that is typed and not shown.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::{Command, Stdio},
};
use zeroize::Zeroizing;

/// Reads one line. At a terminal it is not shown, and Ctrl-C ends it; elsewhere it is the next line of the input. Nothing:
/// the input has ended.
///
/// # Errors
/// One line: it cannot be read, cannot be hidden, or Ctrl-C was typed.
pub(super) fn line<R: BufRead, W: Write>(
    input: &mut R,
    output: &mut W,
    prompt: &str,
) -> Result<Option<String>, String> {
    if !io::stdin().is_terminal() {
        return plain(input);
    }
    let settings = Settings::hide()?;
    let _ = output.write_all(prompt.as_bytes()).and_then(|()| output.flush()); // who cannot see it does not answer
    let typed = typed(input);
    drop(settings);
    let _ = output.write_all(b"\n").and_then(|()| output.flush());
    typed
}

fn plain(input: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut line = Zeroizing::new(String::new());
    let read = input.read_line(&mut line).map_err(|error| format!("cannot read the secret: {error}"))?;
    Ok((read > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// What is typed up to Enter, with the keys that edit a line.
fn typed(input: &mut impl BufRead) -> Result<Option<String>, String> {
    const BREAK: u8 = 3;
    const END: u8 = 4;
    const BACKSPACE: u8 = 8;
    const KILL: u8 = 21;
    const DELETE: u8 = 127;
    let mut line = Zeroizing::new(Vec::new());
    loop {
        let mut byte = [0];
        match input.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("cannot read the secret: {error}")),
        }
        match byte[0] {
            b'\n' | b'\r' => break,
            BREAK => return Err("interrupted: nothing is written".to_owned()),
            END if line.is_empty() => return Ok(None),
            BACKSPACE | DELETE => {
                // the last character, which may have several bytes
                while line.pop().is_some_and(|last| last & 0xc0 == 0x80) {}
            }
            KILL => line.clear(),
            other => line.push(other),
        }
    }
    let line = std::str::from_utf8(&line).map_err(|_| "the secret is not text in UTF-8".to_owned())?;
    Ok(Some(line.to_owned()))
}

/// The terminal as it was; it is set back when this is dropped.
struct Settings(String);

impl Settings {
    /// Shows nothing of what is typed, and hands over every key, Ctrl-C too, so that nothing leaves the terminal hidden.
    fn hide() -> Result<Self, String> {
        let failed = |why: String| format!("cannot hide what is typed ({why}): use `--secret-file`");
        let before = stty(&["-g"]).map_err(failed)?;
        let settings = Self(before.trim().to_owned());
        stty(&["-echo", "-icanon", "-isig", "min", "1", "time", "0"]).map_err(failed)?;
        Ok(settings)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = stty(&[&self.0]); // there is nothing else to be done
    }
}

fn stty(arguments: &[&str]) -> Result<String, String> {
    let run = Command::new("stty").args(arguments).stdin(Stdio::inherit()).stderr(Stdio::null()).output();
    let done = run.map_err(|error| format!("`stty`: {error}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err("`stty` failed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_edit_a_line_edit_it() {
        let read = |bytes: &[u8]| typed(&mut &*bytes);
        assert_eq!(read(b"hunter2\nrest"), Ok(Some("hunter2".into())));
        assert_eq!(read("huntr\u{e9}\u{7f}\u{7f}er2\r".as_bytes()), Ok(Some("hunter2".into())));
        assert_eq!(read(b"wrong\x15hunter2\n"), Ok(Some("hunter2".into())));
        assert_eq!(read(b"\x7f\n"), Ok(Some(String::new())));
        assert_eq!((read(b"\x04"), read(b"hunter"), read(b"")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!(read(b"hunt\x03"), Err("interrupted: nothing is written".into()));
        assert!(read(b"\xff\n").is_err());
    }
}
