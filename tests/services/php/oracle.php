<?php
// Answers what PHP makes of values, one after the other, until its input ends.
// In: a letter, a length (32 bit, little endian), so many bytes. Out, for `j`: the value's form in a message, in Redis and
// in a search index; for `z`: what gzencode makes of it. Each with its length before; 0xffffffff where decoding fails.
error_reporting(E_ALL);

function take(int $length): string
{
    $bytes = '';
    while (strlen($bytes) < $length) {
        $more = fread(STDIN, $length - strlen($bytes));
        if ($more === false || $more === '') {
            exit($bytes === '' ? 0 : 1);
        }
        $bytes .= $more;
    }
    return $bytes;
}

function tell(?string $bytes): void
{
    fwrite(STDOUT, $bytes === null ? "\xff\xff\xff\xff" : pack('V', strlen($bytes)) . $bytes);
}

const MESSAGE = JSON_HEX_TAG | JSON_HEX_APOS | JSON_HEX_AMP | JSON_HEX_QUOT | JSON_PARTIAL_OUTPUT_ON_ERROR;

while (true) {
    $kind = take(1);
    $length = unpack('V', take(4))[1];
    $value = $length === 0 ? '' : take($length);
    if ($kind === 'z') {
        tell(gzencode($value, 3));
        continue;
    }
    $decoded = json_decode($value, true);
    if (!is_array($decoded)) {
        tell(null);
        continue;
    }
    $message = json_encode($decoded, MESSAGE);
    tell($message);
    $received = json_decode($message, true);
    tell(json_encode($received));
    unset($received['_timestamp']);
    tell(json_encode($received, JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION));
}
