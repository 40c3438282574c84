//! The environment is the process's: a program of its own.

mod support;

use oscar::{Cache, ErrorKind};

#[test]
fn a_backend_may_be_forced_by_name() {
    let backends = oscar::backends().unwrap();
    assert_eq!(backends.iter().filter(|backend| backend.selected).count(), 1);
    for backend in &backends {
        assert_ne!(backend.name, "");
        assert_eq!(backend.available, backend.reason.is_empty(), "{backend:?}");
    }

    std::env::set_var("OSCAR_BACKEND", "scalar");
    let selected: Vec<String> =
        oscar::backends().unwrap().into_iter().filter(|backend| backend.selected).map(|backend| backend.name).collect();
    assert_eq!(selected, ["scalar"]);

    std::env::set_var("OSCAR_BACKEND", "nonsense");
    let error = Cache::new(&support::small_config("exact")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.text().contains("nonsense"), "{error}");
}
