//! What the encoder can't do on a real cluster: read the server's own files. That the kernel holds
//! it to that is tested beside the encoder; here, that it is told what to keep away from, and that
//! models may still come from anywhere else.

use anyhow::Result;
use pgclip_cluster::Cluster;
use pgclip_tests::{both, sqlstate, trapdoor, value};
use postgres::Client;

/// Which version of Landlock this kernel has; 0: none.
fn landlock() -> i64 {
    // SAFETY: with no attributes and this flag the call reads and writes nothing.
    unsafe { libc::syscall(444, std::ptr::null::<u8>(), 0_usize, 1_u32) }.max(0)
}

fn register(client: &mut Client, cluster: &Cluster, place: &str) -> String {
    let directory = cluster.data().join(place);
    let parent = directory.parent().expect("it is below the data directory's parent");
    std::fs::create_dir_all(parent).expect("the cluster's folder is ours");
    let name = place.replace(['/', '.'], "");
    trapdoor::make(&directory, &name, "hang").expect("the model can be written");
    let directory = directory.display().to_string();
    sqlstate(client.execute("SELECT clip_register_model($1, $2)", &[&name, &directory]))
}

#[test]
fn the_encoder_is_kept_out_of_the_servers_files() -> Result<()> {
    both("confined", |cluster, client| {
        let version = landlock();
        client.batch_execute("SELECT encode_text('an encoder is there')")?;
        let told: String = value(client, "SELECT confinement FROM clip_status")?;
        let claim = match version {
            0 => "no new privileges, no landlock in this kernel".into(),
            _ => {
                format!("no new privileges, landlock {version}: files outside the server read-only")
            }
        };
        assert!(told.starts_with(&claim), "{told}");
        assert!(cluster.log().contains(&claim));
        let encoders = cluster.encoders();
        let status = std::fs::read_to_string(format!("/proc/{}/status", encoders[0].pid))?;
        assert!(status.contains("NoNewPrivs:\t1"));

        // Places that were there at the start, and some that were not; a table's space, too.
        assert_eq!(register(client, cluster, "../first"), "no error");
        let pid = "SELECT pid FROM clip_status";
        let first: i32 = value(client, pid)?;
        assert_eq!(register(client, cluster, "../first/../deep/er/second"), "no error");
        assert_eq!(value::<i32>(client, pid)? == first, version == 0);
        let closed = if version > 0 { "42501" } else { "no error" };
        assert_eq!(register(client, cluster, "third"), closed);
        assert_eq!(register(client, cluster, "pgclip/fourth"), closed);
        // They are read again when they are used, also by the next encoder.
        client.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pgclip%'")?;
        cluster.wait_for("another encoder", || {
            Ok(sqlstate(client.query("SELECT encode_text('x', 'first')", &[])) == "no error")
        })?;
        assert!(value::<bool>(client, "SELECT dims(encode_text('x', 'firstdeepersecond')) = 3")?);
        Ok(())
    })
}
