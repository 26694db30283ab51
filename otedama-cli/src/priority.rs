//! How mining threads stand beside other programs.

use std::sync::Once;

pub(crate) use otedama_pool::config::Priority;

/// Gives the calling thread this priority, and with it the threads it starts. Where that is not allowed, says so
/// once and leaves it as it is.
pub(crate) fn take(priority: Priority) {
    static SAID: Once = Once::new();
    if let Err(error) = set(priority) {
        SAID.call_once(|| {
            eprintln!("threads run with the priority they have, not with {}: {error}", name(priority));
        });
    }
}

fn name(priority: Priority) -> &'static str {
    match priority {
        Priority::Idle => "idle",
        Priority::Low => "low",
        Priority::Normal => "normal",
        Priority::High => "high",
    }
}

/// The nice value that stands for a priority; none leaves it to whoever started the program.
fn nice(priority: Priority) -> Option<i32> {
    match priority {
        Priority::Idle => Some(19),
        Priority::Low => Some(10),
        Priority::Normal => None,
        Priority::High => Some(-10),
    }
}

#[cfg(target_os = "linux")]
fn set(priority: Priority) -> Result<(), String> {
    use rustix::process::{getpriority_process, setpriority_process};
    let Some(nice) = nice(priority) else { return Ok(()) };
    // Nobody in particular is the calling thread: Linux keeps a nice value for each.
    let now = getpriority_process(None).map_err(|error| error.to_string())?;
    // Whoever started the program may have been more modest than was asked.
    if nice > 0 && now >= nice {
        return Ok(());
    }
    setpriority_process(None, nice)
        .map_err(|error| format!("nice {nice}: {error}; that needs the right CAP_SYS_NICE"))
}

#[cfg(not(target_os = "linux"))]
fn set(priority: Priority) -> Result<(), String> {
    match nice(priority) {
        None => Ok(()),
        Some(_) => Err("threads have no priorities of their own on this system".to_owned()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    /// The nice value of a thread of its own after these.
    fn nice_after(priorities: &'static [Priority]) -> i32 {
        let thread = std::thread::spawn(move || {
            for &priority in priorities {
                set(priority).unwrap();
            }
            getpriority_process(None).unwrap()
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_thread_is_as_nice_as_asked_and_others_are_left_alone() {
        let before = getpriority_process(None).unwrap();
        assert_eq!(nice_after(&[Priority::Normal]), before);
        assert_eq!(nice_after(&[Priority::Low]), before.max(10));
        assert_eq!(nice_after(&[Priority::Idle]), 19);
        assert_eq!(nice_after(&[Priority::Idle, Priority::Low]), 19, "more modest than asked");
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn a_missing_right_is_said_with_what_would_help() {
        // Root may; a thread that is nicer already may not go back where it may not.
        let outcome = std::thread::spawn(|| set(Priority::High)).join().unwrap();
        match outcome {
            Ok(()) => assert_eq!(nice_after(&[Priority::High]), -10),
            Err(words) => assert!(words.contains("nice -10") && words.contains("CAP_SYS_NICE"), "{words}"),
        }
    }
}
