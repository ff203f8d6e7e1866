//! A key ring for a server that encrypts what it writes.

use std::path::{Path, PathBuf};

use super::server::Server;

/// Where its keys are, and the arguments with which it is to be started again. All of it is in `base`.
pub fn key_ring(server: &mut Server, base: &Path) -> (PathBuf, Vec<String>) {
    let home = server.flavour.home();
    let keys = base.join("keys");
    let plugins = base.join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let mut extra = vec![format!("--plugin-dir={}", plugins.display())];
    let take = |name: &str, from: &Path| {
        std::fs::copy(from.join(name), plugins.join(name)).unwrap();
    };
    if server.flavour.is_mariadb() {
        std::fs::write(&keys, "1;770A8A65DA156D24EE2A093277530142\n").unwrap();
        take("file_key_management.so", &home.join("plugin"));
        extra.push("--plugin-load-add=file_key_management".to_owned());
        extra.push(format!("--file-key-management-filename={}", keys.display()));
    } else {
        // It is told by files beside the program and beside the component.
        take("component_keyring_file.so", &home.join("lib/mysql/plugin"));
        let settings = format!("{{\"path\": \"{}\", \"read_only\": false}}", keys.display());
        std::fs::write(plugins.join("component_keyring_file.cnf"), settings).unwrap();
        let program = base.join("mysqld");
        std::fs::copy(server.flavour.program(), &program).unwrap();
        // What reads its binary logs is looked for beside it.
        std::os::unix::fs::symlink(home.join("bin/mysqlbinlog"), base.join("mysqlbinlog")).unwrap();
        let manifest = "{\"components\": \"file://component_keyring_file\"}";
        std::fs::write(base.join("mysqld.my"), manifest).unwrap();
        server.program = program;
        extra.push(format!("--lc-messages-dir={}/share/mysql", home.display()));
    }
    (keys, extra)
}
