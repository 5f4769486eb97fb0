//! Undoing a creation that failed half-way.

/// One step: what it does, for the log, and how.
type Step<'a> = (String, Box<dyn FnOnce() -> Result<(), String> + 'a>);

/// Steps that take back what was done, run last first unless the creation succeeds.
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<Step<'a>>,
}

impl<'a> Undo<'a> {
    /// Remembers how to take back what was just done.
    pub fn push<E: std::fmt::Display>(&mut self, what: impl Into<String>, step: impl FnOnce() -> Result<(), E> + 'a) {
        self.steps.push((what.into(), Box::new(move || step().map_err(|error| error.to_string()))));
    }

    /// It succeeded: there is nothing to take back.
    pub fn disarm(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step() {
                // The first cause is what the caller is told; `gc` finds what stays behind.
                tracing::warn!(step = what, error, "a failed creation could not be undone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn steps_run_last_first_and_all_of_them_even_when_one_fails() {
        let ran = RefCell::new(Vec::new());
        let mut undo = Undo::default();
        let step = |number| {
            let ran = &ran;
            move || -> Result<(), String> {
                ran.borrow_mut().push(number);
                Ok(())
            }
        };
        undo.push("first", step(1));
        undo.push("second", || Err::<(), _>("no"));
        undo.push("third", step(3));
        drop(undo);
        assert_eq!(*ran.borrow(), [3, 1]);
    }

    #[test]
    fn nothing_runs_when_it_succeeded() {
        let mut undo = Undo::default();
        undo.push("step", || -> Result<(), String> { panic!("must not run") });
        undo.disarm();
    }
}
