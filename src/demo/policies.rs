//! The starter policies, embedded, so that the demo runs without a checkout.

/// File names and contents of the repository's `policies/`.
pub const STARTER: &[(&str, &str)] = &[
    ("api.cedar", include_str!("../../policies/api.cedar")),
    ("portal.cedar", include_str!("../../policies/portal.cedar")),
    ("public.cedar", include_str!("../../policies/public.cedar")),
    ("runners.cedar", include_str!("../../policies/runners.cedar")),
    ("vestibule.cedarschema", include_str!("../../policies/vestibule.cedarschema")),
];
