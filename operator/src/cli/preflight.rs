//! `portolan preflight`: arguments and the table.

use std::io::{self, Write as _};

use clap::Args;
use comfy_table::{Table, presets::NOTHING};

use super::Format;
use crate::{
    preflight::{Role, Verdict, preflight},
    source::kubernetes::{Cluster, SecretAccess, connect},
};

/// Arguments of `portolan preflight`.
#[derive(Debug, Clone, Args)]
pub(super) struct PreflightArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Look at what the operator itself needs, with the identity of this connection: run it in the operator's pod.
    #[arg(long)]
    as_operator: bool,
    /// The operator's namespace.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = portolan_crds::names::SYSTEM_NAMESPACE)]
    namespace: String,
    /// How the operator reads Secrets.
    #[arg(long, value_enum, default_value_t = SecretAccess::Referenced)]
    secret_access: SecretAccess,
    /// How to show it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Runs it; `false` when something is missing.
pub(super) fn run(args: &PreflightArgs) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let role = if args.as_operator { Role::Operator } else { Role::Installer };
    let looked = runtime.block_on(async {
        let client = connect(&args.cluster).await?;
        Ok::<_, crate::source::kubernetes::ClusterError>(
            preflight(&client, role, args.secret_access, &args.namespace).await,
        )
    });
    let findings = match looked {
        Ok(findings) => findings,
        Err(error) => {
            writeln!(io::stderr(), "portolan: {error}")?;
            return Ok(false);
        }
    };
    let mut out = io::stdout().lock();
    match args.output {
        Format::Json => {
            writeln!(out, "{}", serde_json::to_string_pretty(&findings).map_err(io::Error::other)?)?;
        }
        Format::Yaml => {
            write!(out, "{}", serde_saphyr::to_string(&findings).map_err(io::Error::other)?)?;
        }
        Format::Table => {
            let mut table = Table::new();
            table.load_style(NOTHING).set_header(["CHECK", "RESULT", ""]);
            for finding in &findings {
                let verdict = match finding.verdict {
                    Verdict::Ok => "ok",
                    Verdict::Warning => "warning",
                    Verdict::Missing => "MISSING",
                };
                table.add_row([finding.check.as_str(), verdict, finding.message.as_str()]);
            }
            writeln!(out, "{table}")?;
        }
    }
    Ok(findings.iter().all(|finding| finding.verdict != Verdict::Missing))
}
