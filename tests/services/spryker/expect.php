<?php
// What a shop's own export and consumers make of its tables, said by PHP. Knows nothing of the program under test.
//
//   php expect.php TABLES.TSV PREFIX STORES COMPRESS < dump
//
// In: `T table`, then its rows, one a line: id, key, store, data, alias_keys, mapping_resource_key; hexadecimal but for the
// id, `-` for NULL.
// Out: `R key value` for what is in Redis, `S index id document` for what is in a search index, all hexadecimal;
// `D table id` for a row that cannot be exported.
error_reporting(E_ALL);
set_error_handler(function (int $level, string $message): bool {
    fwrite(STDERR, "$message\n");
    exit(1);
});

const MESSAGE = JSON_HEX_TAG | JSON_HEX_APOS | JSON_HEX_AMP | JSON_HEX_QUOT | JSON_PARTIAL_OUTPUT_ON_ERROR;
const DOCUMENT = JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;

[, $file, $prefix, $stores, $compress] = $argv;
$stores = explode(',', $stores);
$lines = file($file, FILE_IGNORE_NEW_LINES);
$names = explode("\t", array_shift($lines));
$tables = [];
foreach ($lines as $line) {
    $table = array_combine($names, explode("\t", $line));
    $tables[$table['table']] = $table;
}

function field(string $field): ?string
{
    return $field === '-' ? null : hex2bin($field);
}

// What a consumer gets of a message that was sent.
function through_the_queue(array $message): array
{
    return json_decode(json_encode(['write' => $message], MESSAGE), true)['write'];
}

function redis(string $key, mixed $value): void
{
    global $compress;
    $value = json_encode($value);
    if ($compress === 'gzip' && strlen($value) > 200) {
        $value = gzencode($value, 3);
    }
    echo 'R ', bin2hex('kv:' . $key), ' ', bin2hex($value), "\n";
}

function document(string $type, ?string $store, string $id, array $value): void
{
    global $prefix, $stores;
    unset($value['_timestamp']);
    $json = bin2hex(json_encode($value, DOCUMENT));
    foreach ($store === null || $store === '' ? $stores : [$store] as $one) {
        echo 'S ', bin2hex(strtolower("{$prefix}_{$one}_{$type}")), ' ', bin2hex($id), " $json\n";
    }
}

while (($line = fgets(STDIN)) !== false) {
    $fields = explode(' ', rtrim($line, "\n"));
    if ($fields[0] === 'T') {
        $table = $tables[$fields[1]];
        continue;
    }
    $id = $fields[0];
    [$key, $store, $data, $aliases, $mapping] = array_map('field', array_slice($fields, 1));
    // A NULL decodes as an empty text does: to nothing.
    $value = json_decode($data ?? '', true);
    $aliases = json_decode($aliases ?? '[]', true);
    $search = $table['kind'] === 'search';
    // A search index takes objects only. A row whose aliases cannot be read is not whole.
    if (!is_array($value) || !is_array($aliases) || ($search && array_is_list($value))) {
        echo "D {$table['table']} $id\n";
        continue;
    }
    $message = through_the_queue([
        'key' => $key,
        'value' => $value,
        'resource' => $table['key'],
        'params' => $search ? ['type' => $table['type']] : [],
        'store' => $store,
    ]);
    if ($search) {
        document($message['params']['type'], $message['store'], $message['key'], $message['value']);
        continue;
    }
    redis($message['key'], $message['value']);
    if ($mapping !== null && $mapping !== '') {
        $aliases[$mapping] = ['key' => $key];
    }
    foreach ($aliases as $alias => $target) {
        $message = through_the_queue(['key' => $alias, 'value' => $target, 'resource' => $table['key']]);
        redis($message['key'], $message['value']);
    }
}
