//! TLS for miners: a certificate chain and its key from PEM files, read again when they have changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Security;

/// The most bytes a certificate chain or a key may have.
const MAX_FILE: u64 = 1 << 20;

/// A certificate chain with its key, as of the last time they could be read.
#[derive(Debug)]
pub struct Certificates {
    files: Files,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// Of the files when they were last looked at, whatever came of it.
    stamps: [Stamp; 2],
}

/// What tells a file from its earlier self.
type Stamp = Option<(SystemTime, u64)>;

impl Certificates {
    /// Reads what is configured; `None` if TLS is not.
    ///
    /// # Errors
    /// If it is and a file is not named, cannot be read, or does not hold what it should; the error names it.
    pub fn load(security: &Security) -> Result<Option<Arc<Certificates>>, TlsError> {
        if !security.enable_tls {
            return Ok(None);
        }
        let named = |file: &Option<PathBuf>, key| file.clone().ok_or(TlsError::NotNamed(key));
        let chain = named(&security.cert_file, "cert_file")?;
        let key = named(&security.key_file, "key_file")?;
        Certificates::open(chain, key).map(|certificates| Some(Arc::new(certificates)))
    }

    /// Reads a chain and its key, both PEM.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn open(chain: PathBuf, key: PathBuf) -> Result<Certificates, TlsError> {
        let files = Files { chain, key };
        // Before reading: what changes meanwhile is seen the next time.
        let stamps = files.stamps();
        let config = files.read()?;
        Ok(Certificates { files, current: Mutex::new(Current { config, stamps }) })
    }

    /// What new connections are to be served with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current().config)
    }

    /// Reads the files again if they have changed since they were last looked at; whether there is something
    /// new. Connections that are open keep what they began with.
    ///
    /// # Errors
    /// If what is there now is of no use: what was read before stays, and the same files are not complained
    /// about twice.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let stamps = self.files.stamps();
        if self.current().stamps == stamps {
            return Ok(false);
        }
        let read = self.files.read();
        let mut current = self.current();
        current.stamps = stamps;
        current.config = read?;
        Ok(true)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why miners cannot be served over TLS: one line, the file first.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// TLS is wanted, and this key of the section `security` says nothing.
    #[error("security.{0} is not set: expected the name of a PEM file, or enable_tls: false")]
    NotNamed(&'static str),
    /// No such file, or no right to read it.
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Larger than any chain or key.
    #[error("{}: has {found} bytes: expected at most {MAX_FILE}", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        found: u64,
    },
    /// Not what was expected.
    #[error("{}: {found}: expected {expected}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        found: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The two do not belong together, or the certificate cannot be used.
    #[error("{} with {}: {error}", chain.display(), key.display())]
    Pair {
        /// The certificate chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
}

const A_CHAIN: &str = "-----BEGIN CERTIFICATE-----, the server's own first";
const A_KEY: &str = "-----BEGIN PRIVATE KEY----- (PKCS#8, PKCS#1 or SEC1, not encrypted)";

impl Files {
    fn stamps(&self) -> [Stamp; 2] {
        [&self.chain, &self.key].map(|file| {
            let metadata = fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let content = |file: &Path, expected, found: String| TlsError::Content {
            file: file.to_owned(),
            found,
            expected,
        };
        let pem = |error: PemError| match error {
            PemError::NoItemsFound => "holds none".to_owned(),
            other => other.to_string(),
        };
        let bytes = read(&self.chain)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| content(&self.chain, A_CHAIN, pem(error)))?;
        if chain.is_empty() {
            return Err(content(&self.chain, A_CHAIN, "holds no certificate".to_owned()));
        }
        let bytes = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            PemError::NoItemsFound => content(&self.key, A_KEY, "holds no private key".to_owned()),
            other => content(&self.key, A_KEY, pem(other)),
        })?;
        let pair = |error| TlsError::Pair { chain: self.chain.clone(), key: self.key.clone(), error };
        // One provider, given explicitly: none is installed for the whole process.
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(pair)?;
        Ok(Arc::new(config))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { file: file.to_owned(), error };
    let found = fs::metadata(file).map_err(unreadable)?.len();
    if found > MAX_FILE {
        return Err(TlsError::TooLarge { file: file.to_owned(), found });
    }
    fs::read(file).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made {
        _dir: tempfile::TempDir,
        security: Security,
        chain: PathBuf,
        key: PathBuf,
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["pool.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn made() -> Made {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        let (certificate, secret) = pair();
        fs::write(&chain, certificate).unwrap();
        fs::write(&key, secret).unwrap();
        let security =
            Security { enable_tls: true, cert_file: Some(chain.clone()), key_file: Some(key.clone()) };
        Made { _dir: dir, security, chain, key }
    }

    #[test]
    fn without_tls_nothing_is_read() {
        assert!(Certificates::load(&Security::default()).unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file() {
        let says = |made: &Made, file: &Path, words: &str| {
            let error = Certificates::load(&made.security).unwrap_err().to_string();
            assert!(error.contains(&file.display().to_string()) && error.contains(words), "{error}");
            assert!(!error.contains('\n'), "{error}");
        };
        let (certificate, _) = pair();
        let good = made();
        assert!(Certificates::load(&good.security).unwrap().is_some());

        let missing = made();
        fs::remove_file(&missing.chain).unwrap();
        says(&missing, &missing.chain, "cannot be read");
        let empty = made();
        fs::write(&empty.chain, "").unwrap();
        says(&empty, &empty.chain, "holds no certificate");
        let swapped = made();
        fs::write(&swapped.key, &certificate).unwrap();
        says(&swapped, &swapped.key, "holds no private key");
        let cut = made();
        fs::write(&cut.chain, &certificate[..certificate.len() - 40]).unwrap();
        says(&cut, &cut.chain, "expected -----BEGIN CERTIFICATE-----");
        let foreign = made();
        fs::write(&foreign.chain, &certificate).unwrap();
        says(&foreign, &foreign.key, "keys may not be consistent");
        let large = made();
        fs::write(&large.key, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        says(&large, &large.key, "1048577 bytes");
        let unnamed = Security { enable_tls: true, ..Security::default() };
        let error = Certificates::load(&unnamed).unwrap_err().to_string();
        assert!(error.starts_with("security.cert_file is not set"), "{error}");
    }

    #[test]
    fn files_that_changed_are_read_again_and_bad_ones_complained_about_once() {
        let made = made();
        let certificates = Certificates::load(&made.security).unwrap().unwrap();
        let first = certificates.config();
        assert!(!certificates.reload().unwrap());
        // Of another length, so that it does not hang on the file system's clock.
        fs::write(&made.chain, "half written").unwrap();
        assert!(certificates.reload().is_err());
        assert!(!certificates.reload().unwrap());
        assert!(Arc::ptr_eq(&first, &certificates.config()));
        let (certificate, secret) = pair();
        fs::write(&made.chain, certificate).unwrap();
        fs::write(&made.key, secret).unwrap();
        assert!(certificates.reload().unwrap());
        assert!(!Arc::ptr_eq(&first, &certificates.config()));
    }
}
