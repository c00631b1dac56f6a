//! Which cluster `--cluster` means: by its name, or where that is not enough by its data directory.

use std::path::Path;

use crate::observe::whose;

/// Whether `wanted`, a name or the absolute path of a data directory, means the cluster of this name and real path.
pub fn means(wanted: &str, name: &str, data_directory: &Path) -> bool {
    if !wanted.starts_with('/') {
        return wanted == name;
    }
    let wanted = Path::new(wanted);
    wanted == data_directory || whose::place(wanted).is_ok_and(|place| place.path == data_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_data_directory_means_a_cluster() {
        let held = tempfile::tempdir_in("/var/tmp").unwrap();
        let (data, link) = (held.path().join("data"), held.path().join("link"));
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_string();
        for (wanted, meant) in [
            ("main", true),
            ("other", false),
            (text(&data).as_str(), true),
            (&format!("{}/", text(&data)), true),
            (text(&link).as_str(), true),
            (text(held.path()).as_str(), false),
        ] {
            assert_eq!(means(wanted, "main", &data), meant, "{wanted}");
        }
        // A lost one is told by its path alone.
        std::fs::remove_dir(&data).unwrap();
        assert!(means(&text(&data), "main", &data));
    }
}
