//! The echo backend of the tests and the quickstart.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use portolan_e2e::echo::{Echo, EchoConfig, TlsConfig, cert};
use tokio::signal::unix::{SignalKind, signal};

/// Answers every request with what reached it: HTTP/1.1, HTTP/2, gRPC, WebSocket, TLS, TCP and UDP.
#[derive(Debug, Parser)]
#[command(name = "portolan-echo", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a throw-away authority and a server certificate for hosts.
    Cert(Cert),
}

/// What to serve, where.
#[derive(Debug, Args)]
struct Serve {
    /// Name that every answer carries.
    #[arg(long, default_value = "echo")]
    instance: String,
    /// Namespace told in answers.
    #[arg(long, env = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Pod name told in answers; the instance's name if absent.
    #[arg(long, env = "POD_NAME")]
    pod: Option<String>,
    /// Address for HTTP, gRPC and WebSocket in clear text.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// Address for the same over TLS; needs --tls-cert and --tls-key.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    tls: SocketAddr,
    /// PEM file with the certificate chain; turns TLS on.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// PEM file with authorities; clients must show a certificate of theirs.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Also echo TCP, at --tcp=ADDRESS or a free port.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:0")]
    tcp: Option<SocketAddr>,
    /// Also echo UDP, at --udp=ADDRESS or a free port.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:0")]
    udp: Option<SocketAddr>,
    /// Print the bound addresses as one line of JSON.
    #[arg(long)]
    print_ports: bool,
}

/// Where to write which certificate.
#[derive(Debug, Args)]
struct Cert {
    /// Folder for ca.crt, tls.crt and tls.key.
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Host name or IP address the certificate is for; may be repeated.
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// Also write secret.yaml, a kubernetes.io/tls Secret of that name.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = secret_name)]
    secret: Option<(String, String)>,
}

fn secret_name(text: &str) -> Result<(String, String), &'static str> {
    let valid = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    };
    match text.split_once('/') {
        Some((namespace, name)) if valid(namespace) && valid(name) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("expected NAMESPACE/NAME"),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match cli.command {
        Some(Command::Cert(args)) => write_certificate(&args),
        None => serve(cli.serve).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell where standard error is closed.
            writeln!(std::io::stderr(), "portolan-echo: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn write_certificate(args: &Cert) -> Result<(), Box<dyn std::error::Error>> {
    let secret = args.secret.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    Ok(cert::write(&args.dir, &args.hosts, secret)?)
}

async fn serve(args: Serve) -> Result<(), Box<dyn std::error::Error>> {
    // Before the ports are told: whoever reads them may signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsConfig {
        address: args.tls,
        certificate,
        key,
        client_ca: args.tls_client_ca,
    });
    let pod = args.pod.unwrap_or_else(|| args.instance.clone());
    let config = EchoConfig {
        instance: args.instance,
        namespace: args.namespace,
        pod,
        http: Some(args.http),
        tls,
        tcp: args.tcp,
        udp: args.udp,
    };
    let echo = Echo::start(config).await?;
    tracing::info!(addresses = ?echo.addresses(), "serving");
    if args.print_ports {
        let mut out = std::io::stdout();
        writeln!(out, "{}", serde_json::to_string(echo.addresses())?)?;
        out.flush()?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    echo.shutdown().await;
    Ok(())
}
