<?php
// Reads forms as PHP does: what it was sent, with each text in hexadecimal, as it need not be UTF-8.
function shown($value) {
    if (!is_array($value)) {
        return bin2hex($value);
    }
    $found = [];
    foreach ($value as $name => $inner) {
        $found[bin2hex($name)] = shown($inner);
    }
    return (object) $found;
}

header('Content-Type: application/json');
echo json_encode(['fields' => shown($_POST), 'files' => array_map(fn ($name) => bin2hex((string) $name), array_keys($_FILES))]);
