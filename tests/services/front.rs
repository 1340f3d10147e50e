//! What a shop's visitors and its operators meet, private to one test: nginx with a flag file, and sshd with a key.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{redis_server::free_port, shop::wait_until};

/// Debian keeps servers out of an ordinary user's path.
fn server(name: &str) -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&paths).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed"))
}

fn quiet(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

fn answers(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// nginx that answers 503 while the flag file is there.
pub struct Front {
    folder: TempDir,
    pub port: u16,
    child: Child,
}

impl Front {
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let dir = folder.path().display();
        let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temps = temps.map(|name| format!("  {name}_temp_path {dir}/{name};\n"));
        let temps = temps.concat();
        // In one process, so that it may see its own folder, whoever started it.
        let config = format!(
            "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/log;\nevents {{}}\nhttp {{\n  access_log off;\n{temps}\
             server {{ listen 127.0.0.1:{port}; error_page 503 @page; \
             location / {{ if (-f {dir}/maintenance.flag) {{ return 503; }} return 200 shop; }}\n\
             location @page {{ add_header Retry-After 60 always; return 503 soon; }} }}\n}}\n"
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).expect("its settings");
        let mut nginx = Command::new(server("nginx"));
        nginx.arg("-p").arg(folder.path()).arg("-c").arg(&path);
        let child = quiet(&mut nginx);
        wait_until("nginx answers", || answers(port));
        Self {
            folder,
            port,
            child,
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub fn flag(&self) -> PathBuf {
        self.folder.path().join("maintenance.flag")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// sshd that lets one key in, as whoever runs the test.
pub struct Ssh {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Ssh {
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path();
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(key))
                .status();
            assert!(made.expect("ssh-keygen").success());
        }
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile {0}/pid\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nAuthorizedKeysFile {0}/client.pub\n",
            dir.display()
        );
        fs::write(dir.join("config"), config).expect("its settings");
        // sshd insists on it where root starts it.
        fs::create_dir_all("/run/sshd").ok();
        let mut sshd = Command::new(server("sshd"));
        sshd.arg("-D").arg("-f").arg(dir.join("config"));
        let child = quiet(&mut sshd);
        wait_until("sshd answers", || answers(port));
        Self {
            folder,
            port,
            child,
        }
    }

    /// Returns the words before a command that is to be run there, as a list of a plan.
    pub fn prefix(&self) -> String {
        let key = self.folder.path().join("client");
        let user = String::from_utf8(Command::new("id").arg("-un").output().expect("id").stdout);
        format!(
            "ssh, -q, -p, \"{}\", -i, {}, -o, StrictHostKeyChecking=no, -o, UserKnownHostsFile=/dev/null, {}@127.0.0.1",
            self.port,
            shown(&key),
            user.expect("a name").trim()
        )
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
