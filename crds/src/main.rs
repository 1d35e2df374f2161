//! Writes the CRDs of Portolan's own kinds, as they stand in `config/crd/portolan` and `config/helm/crds`.
//!
//! `portolan-crds FOLDER` writes one file per kind; a test fails when the committed ones are not what this writes.

use std::{env, fs, io::Write as _, path::PathBuf, process::ExitCode};

use portolan_crds::install;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return fail("expected one argument: the folder to write to, such as config/crd/portolan");
    };
    let files = match install::own_files() {
        Ok(files) => files,
        Err(error) => return fail(&error.to_string()),
    };
    for (name, text) in files {
        let path = folder.join(name);
        if let Err(error) = fs::write(&path, text) {
            return fail(&format!("cannot write {}: {error}", path.display()));
        }
    }
    ExitCode::SUCCESS
}

fn fail(why: &str) -> ExitCode {
    // Nobody reads standard error: then nobody misses it.
    let _ = writeln!(std::io::stderr(), "portolan-crds: {why}");
    ExitCode::from(2)
}
