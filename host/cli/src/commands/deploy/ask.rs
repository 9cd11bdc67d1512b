//! Questions before something is done.

use std::io::{self, BufRead as _, IsTerminal as _};

use crate::{
    error::{CliError, CliResult},
    exit::Exit,
    printer::Printer,
};

/// Asks on stderr and reads a line. An error with `hint` when there is nobody to ask, or nobody who could have seen
/// what the question is about.
pub(super) fn ask(printer: &Printer, question: &str, hint: &str) -> CliResult<String> {
    if printer.is_quiet() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::new(Exit::Usage, "nothing was done: there is nobody to ask").hint(hint));
    }
    printer.note(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
