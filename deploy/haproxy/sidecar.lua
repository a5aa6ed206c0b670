-- Asks the sidecar at $SIDECAR, through $QUESTION, about each request, and does what it says.
-- For HAProxy 2.6 and newer (core.httpclient). An error in here leaves txn.authorized unset, and haproxy.cfg refuses.

local QUESTION = "http://" .. os.getenv("SIDECAR") .. "/_sidecar/authorize"
-- the frontend of haproxy.cfg that asks once; it gives up long before this file would
local THROUGH = os.getenv("QUESTION")
local SECONDS = 30

-- of the connection between the client and us
local CONNECTION = {
    "connection", "content-length", "transfer-encoding", "expect", "keep-alive", "proxy-connection", "te", "trailer",
    "upgrade",
}
-- what only this file may say to the sidecar, and nobody to the app
local OURS = {
    "x-original-method", "x-original-uri", "x-forwarded-method", "x-forwarded-uri", "x-forwarded-for",
    "x-forwarded-proto",
}
-- of the sidecar's answer to us, not of the client's
local NOT_ANSWERED = { ["content-length"] = true, ["transfer-encoding"] = true, ["connection"] = true }

-- what the sidecar says to the app, each in place of what the client said
local SAID = {
    "x-auth-subject", "x-auth-roles", "x-auth-assertion", "x-request-id", "x-forwarded-for", "x-forwarded-proto",
    "x-forwarded-host", "cookie",
    --to_app "remote-user",
}

-- the values of a header in their order, which HAProxy counts from 0
local function each(values)
    local at = (values and values[0]) and -1 or 0
    return function()
        at = at + 1
        return values and values[at]
    end
end

local function first(values)
    return each(values)()
end

local function question(txn)
    for _, name in ipairs(OURS) do txn.http:req_del_header(name) end
    local headers = txn.http:req_get_headers()
    for _, name in ipairs(CONNECTION) do headers[name] = nil end
    headers["x-original-method"] = { txn.f:method() }
    headers["x-original-uri"] = { txn.f:pathq() }
    headers["x-forwarded-for"] = { txn.f:src() }
    headers["x-forwarded-proto"] = { txn.sf:ssl_fc() == "1" and "https" or "http" }
    return headers
end

local function refuse(txn, answer)
    local reply = txn:reply({ status = answer.status, reason = answer.reason, body = answer.body })
    for name, values in pairs(answer.headers) do
        if not NOT_ANSWERED[name] then
            for value in each(values) do reply:add_header(name, value) end
        end
    end
    txn:done(reply)
end

local function apply(txn, headers)
    for name in string.gmatch(first(headers["x-auth-remove"]) or "", "[^,]+") do
        txn.http:req_del_header(name)
    end
    for _, name in ipairs(SAID) do
        txn.http:req_del_header(name)
        local value = first(headers[name])
        if value then txn.http:req_set_header(name, value) end
    end
    local number = 0
    for value in each(headers["set-cookie"]) do
        number = number + 1
        txn:set_var("txn.set_cookie_" .. number, value)
    end
    -- what caches may do with the app's answer
    for variable, name in pairs({ cache_control = "x-auth-cache-control", vary = "x-auth-vary" }) do
        local value = first(headers[name])
        if value then txn:set_var("txn." .. variable, value) end
    end
    -- exactly the target that was judged
    local target = first(headers["x-auth-target"])
    local path, query = string.match(target, "^([^?]*)%??(.*)$")
    txn.http:req_set_path(path)
    txn.http:req_set_query(query)
end

core.register_action("authorize", { "http-req" }, function(txn)
    local client = core.httpclient()
    local answer = client:get({
        url = QUESTION, dst = THROUGH, headers = question(txn), timeout = SECONDS * 1000,
    })
    if not answer or answer.status == 0 or not answer.headers then
        return
    end
    if answer.status ~= 200 then
        refuse(txn, answer)
        return
    end
    apply(txn, answer.headers)
    txn:set_var("txn.authorized", true)
end)
