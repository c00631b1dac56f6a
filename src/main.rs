//! Start-up and exit code; everything else lives in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pitr::main()
}
