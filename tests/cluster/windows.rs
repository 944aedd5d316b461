use std::time::Duration;

use millrace_tests::{Cluster, Stage};

#[test]
fn a_window_size_applies_to_new_windows() {
    let cluster = Cluster::exclusive();
    for seconds in [3, 4] {
        let stage = Stage::new(&cluster, "size", seconds);
        stage.write(&stage.input(20, 3, 600));
        stage.close(3);
        let averages = stage.settle(Duration::from_secs(60));
        assert!(averages.values().all(|a| a.window_end - a.window_start == seconds * 1_000));
    }
}
