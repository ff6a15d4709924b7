//! The recipes in `docs/recipes` are what they say: each alone is good, its cases pass, and none of its policies can change
//! without one that fails.

use super::{
    cases::{Suite, below},
    coverage::Coverage,
    mutate::Mutation,
};
use crate::{
    authorize::Authorize,
    config::{Settings, load_for_review},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes")
}

fn settings() -> Settings {
    load_for_review(&place().join("vestibule.yaml")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The names of the recipes.
fn recipes() -> BTreeSet<String> {
    let entries = fs::read_dir(place()).expect("a directory").map(|entry| entry.expect("an entry").path());
    let cedar = entries.filter(|path| path.extension().is_some_and(|end| end == "cedar"));
    cedar.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

/// Every case of `files` passes, and every policy of `directory` has decided one.
fn holds(directory: &Path, files: &[PathBuf], settings: &Settings) -> (Authorize, Suite) {
    let loaded = Authorize::load(Some(directory), &settings.routes, &settings.providers, &settings.token_issuers);
    let policies = loaded.unwrap_or_else(|errors| panic!("{errors:#?}"));
    let suite = Suite::read(files, settings, &policies.ids()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let verdicts = suite.run(&policies);
    let failed = verdicts.iter().filter(|verdict| !verdict.passed());
    let failed: Vec<_> = failed
        .map(|it| format!("{} {}: {}, not {}", it.case.place(), it.case.name, it.found(), it.case.expect))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let uncovered = Coverage::of(&policies, &verdicts).uncovered;
    assert!(uncovered.is_empty(), "{:?}", uncovered.iter().map(|policy| policy.id.clone()).collect::<Vec<_>>());
    drop(verdicts);
    (policies, suite)
}

#[test]
fn each_recipe_alone_does_what_its_cases_say_and_nothing_else() {
    let settings = settings();
    for name in recipes() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = format!("{name}.cedar");
        fs::copy(place().join(&file), directory.path().join(&file)).expect("copied");
        let (policies, suite) = holds(directory.path(), &[place().join(format!("tests/{name}.yaml"))], &settings);
        let changes = Mutation::of(&suite, &policies, &settings).expect("the schema is good");
        let survivors: Vec<_> = changes.survivors.iter().map(|it| it.missing.as_deref().unwrap_or("none")).collect();
        assert!(survivors.is_empty(), "{name}: {survivors:#?}");
    }
}

/// Somebody who takes them all gets what each of them says.
#[test]
fn all_recipes_together_do_the_same() {
    holds(&place(), &below(&place()).expect("cases"), &settings());
}

/// People read why they are refused, and the page has every recipe.
#[test]
fn every_recipe_is_on_the_page_and_every_policy_says_why() {
    let page = fs::read_to_string(place().join("../policies.md")).expect("the page");
    let named = |name: &str| {
        page.contains(&format!("(recipes/{name}.cedar)")) && page.contains(&format!("(recipes/tests/{name}.yaml)"))
    };
    let recipes = recipes();
    assert_eq!(recipes.iter().filter(|name| !named(name)).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(recipes.len(), 10);
    for name in recipes {
        let text = fs::read_to_string(place().join(format!("{name}.cedar"))).expect("the recipe");
        assert_eq!(text.matches("\n@id(").count(), text.matches("\n@reason(").count(), "{name}");
    }
}
