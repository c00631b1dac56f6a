//! Alembic and Django, from PyPI.

use std::fs;

use super::{Ground, SHOP};
use crate::support::{Scratch, program, tools};

const ENV: &str = "
from alembic import context
from sqlalchemy import create_engine
import os
with create_engine(os.environ['URL']).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
";

#[test]
fn alembic() {
    let scratch = Scratch::new("mig-alembic");
    if tools::part("python").is_none() {
        return;
    }
    let dir = scratch.dir("app", "root", "root", 0o755);
    let ground = Ground::new(&scratch);
    fs::create_dir_all(dir.join("alembic/versions")).unwrap();
    fs::write(dir.join("alembic.ini"), "[alembic]\nscript_location = alembic\n").unwrap();
    fs::write(dir.join("alembic/env.py"), ENV).unwrap();
    let revision = |id: &str, before: Option<&str>, sql: &str| {
        let before = before.map_or("None".to_string(), |id| format!("'{id}'"));
        let text = format!(
            "from alembic import op\nrevision = '{id}'\ndown_revision = {before}\nbranch_labels = None\ndepends_on = None\n\
             def upgrade():\n    op.execute(\"\"\"{sql}\"\"\")\ndef downgrade():\n    pass\n"
        );
        fs::write(dir.join("alembic/versions").join(format!("{id}.py")), text).unwrap();
    };
    revision("ae1027a6acf0", None, "CREATE INDEX environments_slug ON environments (slug)");
    revision("ae1027a6b111", Some("ae1027a6acf0"), "UPDATE environments SET slug = lower(slug)");
    revision("be1027a6c222", Some("ae1027a6b111"), "ALTER TABLE environments ADD COLUMN note text");
    let url = tools::url("postgresql+psycopg2", &ground.cluster, SHOP);
    let alembic = |arguments: &[&str]| program::ok(tools::python_program(&dir, "alembic").env("URL", &url).args(arguments));
    let mut up = || drop(alembic(&["upgrade", "+1"]));
    let (mut second, mut third) = (up, up);
    ground.busily(&mut [&mut up, &mut second, &mut third]);

    let plan = ground.pitr.json(&["plan", "--before-migration", "be1"]);
    assert!(plan["refusals"].as_array().unwrap().is_empty(), "a beginning that is the only one: {plan:#}");
    let several = ground.pitr.json_code(3, &["plan", "--before-migration", "ae1027a6"]);
    assert_eq!(several["refusals"][0]["id"], "migration-ambiguous", "{several:#}");

    let migration = ground.back_to_before("ae1027a6b111", &[]);

    assert_eq!((&migration["class"], &migration["how"]), (&"one-row".into(), &"together".into()));
    assert!(alembic(&["current"]).contains("ae1027a6acf0"));
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    alembic(&["upgrade", "head"]);
    assert!(alembic(&["current"]).contains("be1027a6c222 (head)"));
}

/// The second migration makes an index, which is deferred: its row is written after the work. The third is not.
#[test]
fn django() {
    let scratch = Scratch::new("mig-django");
    if tools::part("python").is_none() {
        return;
    }
    let dir = scratch.dir("app", "root", "root", 0o755);
    let ground = Ground::new(&scratch);
    let socket = &ground.cluster.socket;
    let settings = format!(
        "DATABASES = {{'default': {{'ENGINE': 'django.db.backends.postgresql', 'NAME': '{SHOP}', 'USER': 'postgres', \
         'HOST': '{}', 'PORT': '{}'}}}}\nINSTALLED_APPS = ['shop']\nSECRET_KEY = 'x'\nUSE_TZ = True\n\
         DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n",
        socket.dir.display(),
        socket.port
    );
    fs::create_dir_all(dir.join("shop/migrations")).unwrap();
    fs::write(dir.join("settings.py"), settings).unwrap();
    for file in ["shop/__init__.py", "shop/models.py", "shop/migrations/__init__.py"] {
        fs::write(dir.join(file), "").unwrap();
    }
    let migration = |name: &str, before: &str, operations: &str| {
        let text = format!(
            "from django.db import migrations, models\nclass Migration(migrations.Migration):\n    dependencies = [{before}]\n    operations = [{operations}]\n"
        );
        fs::write(dir.join("shop/migrations").join(format!("{name}.py")), text).unwrap();
    };
    let id = "('id', models.BigAutoField(primary_key=True))";
    migration("0001_initial", "", &format!("migrations.CreateModel('Project', [{id}, ('name', models.TextField(null=True))])"));
    migration(
        "0002_owner",
        "('shop', '0001_initial')",
        "migrations.RunSQL('UPDATE environments SET slug = lower(slug)'), migrations.AddField('project', 'owner', models.TextField(null=True, db_index=True))",
    );
    migration("0003_note", "('shop', '0002_owner')", "migrations.AddField('project', 'note', models.TextField(null=True))");
    let django = |arguments: &[&str]| {
        let mut command = tools::python_program(&dir, "django-admin");
        program::ok(command.env("PYTHONPATH", &dir).env("DJANGO_SETTINGS_MODULE", "settings").args(arguments))
    };
    ground.busily(&mut [
        &mut || drop(django(&["migrate", "shop", "0001"])),
        &mut || drop(django(&["migrate", "shop", "0002"])),
        &mut || drop(django(&["migrate", "shop", "0003"])),
    ]);

    let listed = ground.listed(&[]);
    let how: Vec<_> = listed.iter().map(|one| (one["version"].as_str().unwrap(), one["how"].as_str().unwrap())).collect();
    assert_eq!(how[1..], [("shop.0002_owner", "before-row"), ("shop.0003_note", "together")], "{listed:#?}");
    assert_ne!(listed[1]["xid"], listed[1]["recorded"]["xid"]);
    let without = ground.pitr.json_code(3, &["plan", "--before-migration", "0002"]);
    assert_eq!(without["refusals"][0]["id"], "migration-not-found", "{without:#}");

    ground.back_to_before("shop.0002_owner", &[]);

    let said = django(&["showmigrations", "--plan"]);
    assert!(
        said.contains("[X]  shop.0001_initial") && said.contains("[ ]  shop.0002_owner") && said.contains("[ ]  shop.0003_note"),
        "{said}"
    );
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    django(&["migrate"]);
}
