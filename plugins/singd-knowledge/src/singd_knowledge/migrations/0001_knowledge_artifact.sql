-- One row a template file. (source, id) is the path of the file in the tree that `source` names.
create schema if not exists knowledge;

create table knowledge.knowledge_artifact (
    source          text        not null default 'local',
    id              text        not null,
    path            text        not null,
    artifact_type   text        not null,
    classified_by   text        not null,
    rules           integer     not null,
    category        text,
    name            text        not null,
    version         text        not null,
    description     text,
    declared_id     text,
    language        text,
    tags            text[]      not null default '{}',
    content_raw     text        not null,
    -- Generated, so that it cannot disagree with the file's own text.
    content         jsonb       not null generated always as (content_raw::jsonb) stored,
    content_hash    text        not null check (content_hash ~ '^[0-9a-f]{64}$'),
    inserted_at     timestamptz not null default now(),
    loaded_at       timestamptz not null default now(),
    primary key (source, id)
);

comment on column knowledge.knowledge_artifact.classified_by is 'the rule that gave artifact_type, for people';
comment on column knowledge.knowledge_artifact.rules is 'number of the rule set that classified the row';
comment on column knowledge.knowledge_artifact.loaded_at is 'when this content was loaded; an unchanged file leaves it';

create index knowledge_artifact_type on knowledge.knowledge_artifact (artifact_type);
create index knowledge_artifact_tags on knowledge.knowledge_artifact using gin (tags);
create index knowledge_artifact_content on knowledge.knowledge_artifact using gin (content jsonb_path_ops);
