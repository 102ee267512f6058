//! Stages what an image holds besides its program: the certificate authorities, and a folder that it may write to.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Where TLS libraries look for the authorities first.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
const CACHE_DIR: &str = "var/lib/larder";
/// Of base64, by RFC 7468.
const PEM_LINE_BYTES: usize = 64;

/// Puts the program and all that it needs below `root`.
///
/// # Errors
/// When something cannot be read or written.
pub(super) fn stage(root: &Path, program: &Path) -> Result<()> {
    let authorities = root.join(AUTHORITIES);
    for dir in [
        &root.join(CACHE_DIR),
        authorities.parent().context("has a parent")?,
    ] {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    fs::write(&authorities, authorities_pem()).context("write the authorities")?;
    let staged = root.join(program.file_name().context("a program has a name")?);
    fs::copy(program, &staged).with_context(|| format!("copy {}", program.display()))?;
    // Builders keep modes, and the image's user must be able to read, whatever this process's umask is.
    for (path, mode) in [
        (&authorities, 0o644),
        (&staged, 0o755),
        (&root.join(CACHE_DIR), 0o755),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Mozilla's authorities as Cargo.lock pins them. A building machine's own may hold some that are nobody else's.
fn authorities_pem() -> String {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(certificate).as_bytes().chunks(PEM_LINE_BYTES) {
            let _ = writeln!(pem, "{}", line.escape_ascii());
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}
