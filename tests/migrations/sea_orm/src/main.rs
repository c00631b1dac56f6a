//! Three migrations of SeaORM, as a program: `pitr-test-sea-orm URL up COUNT` applies so many of those that are pending,
//! `URL status` prints each with its state, one a line.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectOptions, Database};

struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Statement("m20260101_000001_index", "CREATE INDEX environments_slug ON environments (slug)")),
            Box::new(Statement("m20260101_000002_flatten", "UPDATE environments SET slug = lower(slug)")),
            Box::new(Statement("m20260101_000003_note", "ALTER TABLE environments ADD COLUMN note text")),
        ]
    }
}

/// A migration's name and its only statement.
struct Statement(&'static str, &'static str);

impl MigrationName for Statement {
    fn name(&self) -> &str {
        self.0
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Statement {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.1).await.map(drop)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, verb, rest @ ..] = arguments.as_slice() else { return Err("URL up COUNT | URL status".into()) };
    let database = Database::connect(ConnectOptions::new(url.as_str())).await?;
    match verb.as_str() {
        "up" => Migrator::up(&database, rest.first().map(|count| count.parse()).transpose()?).await?,
        _ => {
            for migration in Migrator::get_migration_with_status(&database).await? {
                println!("{} {}", migration.name(), migration.status());
            }
        }
    }
    Ok(())
}
