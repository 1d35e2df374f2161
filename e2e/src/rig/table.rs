//! Tables of requests and what is expected of each. All rows are asked; a failure shows every wrong one.

use std::fmt::Write as _;

use super::client::{Ask, Target};

/// Asks each row over a fresh connection: expected is the backend's name, or the status code where none answers 200.
pub async fn table(target: &Target, rows: impl IntoIterator<Item = (Ask, &str)>) {
    let mut wrong = String::new();
    let mut count = 0;
    for (ask, expected) in rows {
        count += 1;
        let answer = target.ask(&ask).await;
        if answer.short() != expected {
            writeln!(wrong, "{ask}\n    expected {expected}, got {answer}").unwrap();
        }
    }
    assert!(count > 0, "the table is empty");
    assert!(wrong.is_empty(), "\n{wrong}");
}
